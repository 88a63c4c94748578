"""The verb `embed` from end to end: order, chunks, both formats, and nothing half-written under the final name."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
import tokenizers
import torch

import bertwright
from bertwright.cli.main import main
from bertwright.errors import CorpusError, DiskSpaceError, OutputExistsError, UsageError
from bertwright.hub.encoder_folder import save_model
from bertwright.inference import embed_texts
from bertwright.inference.embedder import Embedder
from bertwright.model.build import build_encoder, named_size
from bertwright.verbs.embed import embed

WORDS = ["red", "green", "blue", "cat", "dog", "runs", "sleeps", "far", "away"]
HIGHEST = 1e-6
"""Vectors of a text in different batches are not bit for bit the same."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape = named_size("tiny", vocab_size=len(names), hidden_size=16, heads=2, max_positions=32)
    save_model(build_encoder(shape), folder / "tokenizer.json", folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, size=random.integers(0, 12))) for _ in range(300)] + ["cat " * 50]


@pytest.fixture
def file(texts: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(texts) + "\n")
    return path


def test_the_nth_vector_is_that_of_the_nth_text(
    model: Path, file: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = np.concatenate([embed(model, [text]) for text in texts[:20]])
    together = embed(model, texts)
    np.testing.assert_allclose(together[:20], alone, atol=HIGHEST, rtol=0)
    monkeypatch.setattr(embed_texts, "CHUNK_TEXTS", 64)
    facts = embed(model, file, tmp_path / "a.npy")
    assert (facts["texts"], facts["width"], facts["cut"]) == (301, 16, 1)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy", mmap_mode="r"), together, atol=HIGHEST, rtol=0)
    embed(model, file, tmp_path / "a.parquet", float16=True)
    parquet = pyarrow.parquet.ParquetFile(tmp_path / "a.parquet")
    assert parquet.num_row_groups == 5
    table = parquet.read()
    assert table["text"].to_pylist() == texts
    vectors = np.array(table["vector"].to_pylist())
    assert str(table["vector"].type) == "fixed_size_list<element: halffloat>[16]"
    np.testing.assert_allclose(vectors, together, atol=2e-3, rtol=0)


def test_layers_and_pooling_are_told(model: Path, texts: list[str]) -> None:
    vectors = {
        (layer, pooling): embed(model, texts[:5], layer=layer, pooling=pooling)
        for layer in (0, 1, 2)
        for pooling in ("mean", "cls", "max")
    }
    np.testing.assert_array_equal(vectors[2, "mean"], embed(model, texts[:5]))
    np.testing.assert_array_equal(vectors[1, "max"], embed(model, texts[:5], layer=-2, pooling="max"))
    several = list(vectors.values())
    assert min(float(np.abs(a - b).max()) for i, a in enumerate(several) for b in several[:i]) > 1e-3
    one = embed(model, texts[:5], normalize=True)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)


def test_at_the_terminal(
    model: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["embed", "--model", str(model), "--input", str(file), "--out", str(tmp_path / "a.npy"), "--layer", "-2"]
    assert main(words) == 0
    output = capsys.readouterr()
    assert re.search(r"301 texts.*16 float32.*23\.4 kB", output.err)
    assert re.search("1 texts.*32 tokens", output.err)
    assert "texts per second" in output.out
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), embed(model, file, layer=1))
    assert main([*words[:-3], str(tmp_path / "json.npy"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["texts"], figures["width"], figures["cut"]) == (301, 16, 1)
    assert main(words) == 1
    assert "already exists" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"red cat\nblue dog\n")))
    assert main(["embed", "--model", str(model), "--input", "-", "--out", str(tmp_path / "b.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), bertwright.embed(model, ["red cat", "blue dog"]))
    assert main(["embed", "--model", str(model), "--input", str(file), "--out", str(tmp_path / "a.txt")]) == 2
    assert main(["embed", "--help"]) == 0
    assert "bertwright embed --model" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.npy", "a.parquet"])
def test_what_is_interrupted_leaves_nothing(
    name: str, model: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed_texts, "CHUNK_TEXTS", 64)
    before = Embedder.vectors
    calls: list[int] = []

    def stopped(*args: object, **kwargs: object) -> np.ndarray:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return before(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Embedder, "vectors", stopped)
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        embed(model, file, tmp_path / "out" / name)
    assert len(calls) == 3
    assert os.listdir(tmp_path / "out") == []


def test_calls_that_do_not_fit(
    model: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"\.parquet.*\.npy"):
        embed(model, file, tmp_path / "a.csv")
    with pytest.raises(UsageError, match=r"--pooling first.*mean.*cls.*max"):
        embed(model, file, pooling="first")  # type: ignore[call-overload]
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(CorpusError, match=r"empty\.jsonl"):
        embed(model, tmp_path / "empty.jsonl", tmp_path / "a.npy")
    (tmp_path / "taken.npy").write_text("x")
    with pytest.raises(OutputExistsError):
        embed(model, file, tmp_path / "taken.npy")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(DiskSpaceError, match=r"23\.4 kB"):
        embed(model, file, tmp_path / "a.npy")
    assert not (tmp_path / "a.npy").exists()
    assert embed(model, []).shape == (0, 16)
