"""Export of sentence vectors: cosines and vectors without torch, the cost of 8-bit integers, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from bertwright.cli.main import main
from bertwright.errors import CorpusError, ModelError, UsageError
from bertwright.hub.encoder_folder import save_model
from bertwright.hub.onnx import graphs
from bertwright.hub.sentence_folder import save_sentence_model
from bertwright.model.build import build_encoder, named_size
from bertwright.model.sentence_encoder import Pooling, SentenceEncoder
from bertwright.verbs.embed import embed
from bertwright.verbs.export import export
from bertwright.verbs.predict import predict

WORDS = [f"word{first}{second}" for first in "abcdefghi" for second in "abcdefghi"]
NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
KINDS: dict[str, tuple[str, Pooling, bool]] = {
    "bert": ("bert", "mean", True),
    "modern": ("modern", "max", False),
}
TEXTS = ["wordaa wordbc wordca", "", "worddd wordgg wordaa wordbb", "wordha", "wordii wordab " * 40]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentence folders by kind, what `export` made of each, and a pre-trained one."""
    folder = tmp_path_factory.mktemp("models")
    vocab = {name: i for i, name in enumerate(NAMES)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": len(NAMES), "hidden_size": 32, "heads": 2, "max_positions": 64}
    for kind, (architecture, pooling, normalize) in KINDS.items():
        encoder = build_encoder(named_size("tiny", architecture=architecture, **shape)).eval()
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        if kind == "bert":
            save_model(encoder, folder / "tokenizer.json", folder / "words")
            export(folder / "words", folder / "words-onnx")
        model = SentenceEncoder(encoder, pooling=pooling, normalize=normalize)
        save_sentence_model(model, folder / "tokenizer.json", folder / kind, max_length=48)
        export(folder / kind, folder / f"{kind}-onnx")
    return folder


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    file = tmp_path / "scored.tsv"
    rows = [f"{WORDS[place]} {WORDS[place + 1]}\t{WORDS[place + place % 4]}\t{place % 4}" for place in range(60)]
    file.write_text("\n".join(["sentence1\tsentence2\tscore", *rows]) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_torch(kind: str, folders: Path, tmp_path: Path) -> None:
    ours, theirs = (embed(folders / name, TEXTS) for name in (f"{kind}-onnx", kind))
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    facts = [embed(folders / name, tmp_path / "texts.txt", tmp_path / f"{name}.npy") for name in (f"{kind}-onnx", kind)]
    assert [facts[0][name] for name in ("texts", "cut")] == [5, 1]
    for name in ("texts", "width", "number", "layer", "pooling", "normalize", "cut", "bytes"):
        assert facts[0][name] == facts[1][name]
    np.testing.assert_allclose(np.load(tmp_path / f"{kind}-onnx.npy"), theirs, atol=TOLERANCE, rtol=TOLERANCE)
    assert embed(folders / f"{kind}-onnx", []).shape == (0, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_cosines_are_those_of_torch(kind: str, folders: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("wordaa\twordbb\nwordcc wordaa\twordaa wordcc\n", encoding="utf-8")
    ours, theirs = (
        predict(folders / name, ["wordaa", "wordab wordaa"], input=tmp_path / "pairs.txt")
        for name in (f"{kind}-onnx", kind)
    )
    assert [(line["first"], line["second"]) for line in ours] == [(line["first"], line["second"]) for line in theirs]
    assert len(ours) == 3
    cosines = [line["similarity"] for line in theirs]
    assert max(cosines) - min(cosines) > 0.01
    assert [line["similarity"] for line in ours] == pytest.approx(cosines, abs=TOLERANCE)


def test_torch_is_never_imported(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    program = (
        "import json, sys; from bertwright.cli.main import main; "
        "codes = [main(words) for words in json.loads(sys.argv[1])]; "
        "assert codes == [0] * len(codes), codes; assert 'torch' not in sys.modules, 'torch was imported'"
    )
    calls = [["predict", "--model", str(folders / f"{kind}-onnx"), "wordaa", "wordab"] for kind in KINDS]
    for kind in KINDS:
        words = ["embed", "--model", str(folders / f"{kind}-onnx"), "--input", str(tmp_path / "texts.txt")]
        calls += [[*words, "--out", str(tmp_path / f"{kind}.{form}")] for form in ("npy", "parquet")]
    ran = subprocess.run([sys.executable, "-c", program, json.dumps(calls)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "cosine" in ran.stdout
    np.testing.assert_allclose(np.load(tmp_path / "bert.npy"), embed(folders / "bert", TEXTS), atol=TOLERANCE)


def test_the_folder_says_what_it_is(folders: Path) -> None:
    about = json.loads((folders / "bert-onnx" / "onnx.json").read_text(encoding="utf-8"))
    assert about["part"] == "vector"
    assert [about[name] for name in ("layer", "pooling", "normalize", "max_length")] == [2, "mean", True, 48]
    assert about["outputs"] == {"vectors": ["batch", 32]}
    assert about["checked"]["largest_difference_from_torch"] < 1e-4
    assert {count for count, _ in about["checked"]["batches"]} == {1, 2, 5, 24}
    assert max(length for _, length in about["checked"]["batches"]) == 48
    modern = json.loads((folders / "modern-onnx" / "onnx.json").read_text(encoding="utf-8"))
    assert [modern[name] for name in ("pooling", "normalize")] == ["max", False]
    assert sorted(modern["inputs"]) == ["attention_mask", "input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_int8_says_what_it_costs(
    kind: str, folders: Path, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(folders / kind), "--to", "onnx", "--out", str(tmp_path / "small")]
    assert main(["export", *words, "--quantize", "int8", "--data", str(scored)]) == 0
    shown = capsys.readouterr().out
    for name in ("spearman", "mean cosine with float32", "rows a second", "times torch", "size of the file"):
        assert name in shown
    about = json.loads((tmp_path / "small" / "onnx.json").read_text(encoding="utf-8"))
    assert about["quantized"] == "int8"
    assert about["bytes"][1] < about["bytes"][0] / 2
    assert 0.99 < about["mean_cosine"] < 1
    assert set(about["rows_a_second"]) == {"torch float32", "ONNX float32", "ONNX int8"}
    float32, int8 = about["figures"]["float32"], about["figures"]["int8"]
    assert set(float32) == set(int8) == {"spearman", "pearson"}
    assert main(["evaluate", "embed", "--model", str(folders / kind), "--data", str(scored)]) == 0
    assert f"{float32['pearson']:.4f}" in capsys.readouterr().out
    vectors, exact = (embed(folder, TEXTS) for folder in (tmp_path / "small", folders / f"{kind}-onnx"))
    assert 0 < np.abs(vectors - exact).max() < 0.2 * np.abs(exact).max()


def test_int8_of_pairs_and_of_no_file(folders: Path, scored: Path, tmp_path: Path) -> None:
    lines = [line.rpartition("\t")[0] for line in scored.read_text(encoding="utf-8").splitlines()]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    about = export(folders / "bert", tmp_path / "pairs", quantize="int8", data=tmp_path / "pairs.tsv")
    assert set(about["figures"]["int8"]) == {"mrr_at_10", "accuracy"}
    about = export(folders / "bert", tmp_path / "nothing", quantize="int8")
    assert "figures" not in about
    assert 0.99 < about["mean_cosine"] < 1


def test_a_graph_that_differs_is_not_written(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(graphs.POOLINGS, "mean", graphs.POOLINGS["max"])
    with pytest.raises(ModelError, match="torch"):
        export(folders / "bert", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_a_graph_cannot_do_is_refused(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = folders / "bert-onnx"
    refused: list[tuple[dict[str, Any], str]] = [
        ({"layer": 1}, "--layer 1"),
        ({"pooling": "cls"}, "--pooling cls"),
        ({"normalize": False}, "--no-normalize"),
        ({"precision": "bf16"}, "--precision bf16"),
    ]
    for given, name in refused:
        with pytest.raises(UsageError, match=f"{name}.*layer 2.*pooling mean"):
            embed(graph, TEXTS, **given)
    with pytest.raises(UsageError, match=r"--normalize.*pooling max"):
        embed(folders / "modern-onnx", TEXTS, normalize=True)
    as_exported = embed(graph, TEXTS, layer=-1, pooling="mean", normalize=True)
    np.testing.assert_array_equal(as_exported, embed(graph, TEXTS, layer=2))
    with pytest.raises(ModelError, match=r"head.*vectors"):
        embed(folders / "words-onnx", TEXTS)
    with pytest.raises(UsageError, match="two texts"):
        predict(graph, ["wordaa"])
    words = ["--input", str(tmp_path / "texts.txt"), "--out", str(tmp_path / "a.npy"), "--no-normalize"]
    (tmp_path / "texts.txt").write_text("wordaa\n", encoding="utf-8")
    assert main(["embed", "--model", str(graph), *words]) == 2
    assert "--no-normalize" in capsys.readouterr().err
    with pytest.raises(CorpusError, match="texts"):
        export(folders / "bert", tmp_path / "out", data=tmp_path / "texts.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt"]


def test_a_damaged_description_is_refused(folders: Path, tmp_path: Path) -> None:
    export(folders / "bert", tmp_path / "out")
    file = tmp_path / "out" / "onnx.json"
    about = json.loads(file.read_text(encoding="utf-8"))
    for name, value in (("pooling", 3), ("normalize", None), ("layer", "last"), ("part", "row")):
        file.write_text(json.dumps({**about, name: value}), encoding="utf-8")
        with pytest.raises(ModelError, match="export"):
            predict(tmp_path / "out", ["wordaa", "wordab"])
