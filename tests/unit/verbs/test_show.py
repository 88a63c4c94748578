"""Show: what is printed of documents, batches, runs and models, without a terminal, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

from bertwright.cli.main import main
from bertwright.corpus.manifest import read_manifest
from bertwright.corpus.shards import DocumentBlock, Shards, write_shard
from bertwright.data.pretraining.batches import BatchSource
from bertwright.errors import DataError
from bertwright.files import write_json
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.reports.model_table import part_of
from bertwright.reports.text import legend, row_text
from bertwright.rng import key_of
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.setup.pretrain_config import resolve
from bertwright.types import Batch, MaskedBatch
from bertwright.verbs.calls.showing.show_settings import settings_of, show_settings

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "play", "##ing", "##s", "北", "京"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a DATA folder of 30 documents of 8 sentences "the cat playing" and "北京 the dog plays"."""
    folder = tmp_path / "data"
    (folder / "tokenizer").mkdir(parents=True)
    vocab = {token: index for index, token in enumerate(TOKENS)}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.save(str(folder / "tokenizer" / "tokenizer.json"))
    one, other = [5, 6, 8, 9], [11, 12, 5, 7, 8, 10]
    starts = [1, 1, 1, 0, 1, 0, 1, 1, 1, 0]
    ends = np.cumsum([4, 6] * 4)
    block = DocumentBlock(
        tokens=np.array((one + other) * 120, dtype=np.uint16),
        token_counts=np.full(30, 40),
        sentence_ends=np.tile(ends, 30).astype(np.uint32),
        sentence_counts=np.full(30, 8),
        word_starts=np.array(starts * 120, dtype=bool),
    )
    write_shard(folder / "train-00000.arrow", block)
    counts = {"documents": 30, "sentences": 240, "tokens": 1200}
    shard = {"file": "train-00000.arrow", "bytes": 2400, "sha256": "", **counts}
    manifest = {
        "format": 1,
        "fingerprint": "abc",
        "language": "en",
        "unigram_entropy": 2.0,
        "tokenizer": {"file": "tokenizer/tokenizer.json", "kind": "wordpiece", "vocab_size": 64, "sha256": ""},
        "splits": {"train": {**counts, "words": 840, "shards": [shard]}},
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def shown(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Return what `bertwright show WORDS` prints: results where it is done, the reason where it fails."""
    assert main(["show", *words]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_documents_show_sentences_and_words(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, str(data))
    assert "wordpiece of 64 tokens" in text
    assert "1,200" in text
    assert re.search("document 2: 8 sentences.*28 words.*40 tokens", text)
    assert "    0  the cat play##ing\n    1  北京 the dog play##s\n" in text
    assert re.search("2 more.*--document 0", text)


def test_one_document_is_shown_whole_also_from_its_shard(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for thing in (data, data / "train-00000.arrow"):
        text = shown(capsys, str(thing), "--document", "29")
        assert text.count("the cat play##ing") == 4
        assert "more" not in text


def test_a_batch_is_shown_as_a_run_sees_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, str(data), "--batch", "5", "--length", "32", "--num-rows", "8", "--seed", "3", "--whole-word")
    assert "[MASK]→" in text
    assert re.search("label 1.*another document", text)
    assert re.search("label 0.*B continues A", text)
    assert text.count("[CLS]") == 8
    assert text == shown(
        capsys, str(data), "--batch", "5", "--length", "32", "--num-rows", "8", "--seed", "3", "--whole-word"
    )
    assert text != shown(capsys, str(data), "--batch", "6", "--length", "32", "--num-rows", "8", "--seed", "3")


def test_single_segments_have_no_label(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, str(data), "--batch", "0", "--no-next-sentence")
    assert "label" not in text
    assert "of padding" in text


def test_packed_documents_stand_on_lines_of_their_own(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, str(data), "--batch", "0", "--no-next-sentence", "--pack")
    assert text.count("126 tokens of 3 documents") == 4
    assert len([line for line in text.splitlines() if line.startswith("[CLS]")]) == 12


def test_colours_tell_masked_random_and_kept_apart() -> None:
    true = torch.tensor([[2, 5, 6, 7, 3, 0]])
    text = true > 4
    batch = Batch(true, torch.zeros_like(true), true > 0, text, text)
    seen = torch.tensor([[2, 4, 8, 7, 3, 0]])
    example = MaskedBatch(
        seen, batch.token_type_ids, batch.attention_mask, torch.tensor([[1, 2, 3]]), true[:, 1:4], torch.ones((1, 3))
    )
    line = row_text(batch, example, 0, tokens=TOKENS, mask_id=4)
    assert line.plain == "[CLS] [MASK]→the play→cat dog→dog [SEP] (and 1 of padding)"
    styles = {line.plain[span.start : span.end]: str(span.style) for span in line.spans}
    assert len({styles["[MASK]→the"], styles["play→cat"], styles["dog→dog"], styles["[CLS]"]}) == 4
    words = torch.tensor([[1, 1, 0, 1, 1, 0]], dtype=torch.bool)
    joined = row_text(replace(batch, word_starts=words), example, 0, tokens=TOKENS, mask_id=4)
    assert joined.plain == "[CLS] [MASK]→the+play→cat dog→dog [SEP] (and 1 of padding)"
    console = Console(force_terminal=True, color_system="standard", width=100)
    with console.capture() as capture:
        console.print(line)
        console.print(legend("[MASK]"))
    assert "\x1b[1;37;41m[MASK]→the" in capture.get()


def test_the_batch_is_the_one_that_is_trained_on(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    special = load_tokenizer(data).special
    source = BatchSource(Shards.open(data, "train"), special=special, length=32, rows=4, pairs=True, seed=9)
    objective = build_objective(ObjectiveConfig(), vocab_size=64, mask_id=4)
    example = objective.corrupt(source.draw(7), torch.Generator().manual_seed(key_of("mask", 9, 7, 0)))
    text = shown(capsys, str(data), "--batch", "7", "--length", "32", "--seed", "9")
    hidden = int((example.input_ids == 4).sum())
    assert text.count("[MASK]→") == hidden + 1


def test_a_run_shows_its_figures_and_course(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text('size = "mini"\n')
    assert "no metrics yet" in shown(capsys, str(run), code=1)
    lines = [
        {"step": 10 * n, "tokens": 80 * n, "seconds": 6.0 * n, "loss": 7.5 - n / 10, "mlm_loss": 6.8, "nsp_loss": 0.7,
         "learning_rate": 1e-3, "tokens_per_second": 9000.0, "mfu": 0.4,
         **({"valid": {"mlm_loss": 6.25, "nsp_accuracy": 0.61}} if n % 2 else {})}
        for n in range(1, 40)
    ]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = shown(capsys, str(run))
    assert "390" in text
    assert "6.250" in text
    assert "518.0" in text  # its exponential
    assert "61.0%" in text
    (run / "result.json").write_text("{}")
    assert "is damaged" in shown(capsys, str(run), code=1)


def test_a_fine_tuning_run_shows_its_figures_and_course(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text('task = "classify"\n')
    lines = [
        {"step": 10 * n, "seconds": 6.0 * n, "loss": 0.7 - n / 100, "classify_loss": 0.7, "learning_rate": 1e-4,
         "tokens_per_second": 9000.0, **({"valid": {"accuracy": 0.8125, "f1_macro": 0.75}} if n % 2 else {})}
        for n in range(1, 8)
    ]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = shown(capsys, str(run))
    assert text.count("0.8125") == text.count("0.7500") == 4
    scores = {"accuracy": 0.9375, "f1_macro": 0.875}
    result = {"task": "classify", "dev": scores, "seeds": [scores], "spread": {}, "mean": {"dev": scores},
              "examples_per_second": 10.0, "best_step": 30, "epochs": 3.0, "seconds": 42.0}  # fmt: skip
    (run / "result.json").write_text(json.dumps(result))
    assert "0.9375" in shown(capsys, str(run))
    (run / "result.json").write_text("{}")
    assert "is damaged" in shown(capsys, str(run), code=1)
    (run / "manifest.json").write_text("{}")
    assert "`pretrain`" in shown(capsys, str(run), "--batch", "0", code=2)


def test_a_run_is_not_taken_for_data(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('size = "mini"\n')
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match=r"RUN.*DATA"):
        read_manifest(tmp_path)


def test_a_model_shows_its_weights_by_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write_json(model / "config.json", {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2})
    assert "model.safetensors" in shown(capsys, str(model), code=1)
    names = ["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.a", "bert.encoder.layer.1.a"]
    save_file({name: np.zeros((50, 30), dtype=np.float32) for name in names}, model / "model.safetensors")
    text = shown(capsys, str(model))
    assert "encoder layer 1" in text
    assert "4,500" in text
    (model / "model.safetensors").write_bytes(b"torn")
    assert "whole model folder" in shown(capsys, str(model), code=1)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("bert.encoder.layer.11.output.dense.weight", "encoder layer 11"),
        ("encoder.layer.0.output.dense.weight", "encoder layer 0"),
        ("model.layers.21.attn.Wqkv.weight", "encoder layer 21"),
        ("layers.3.mlp.Wi.weight", "encoder layer 3"),
        ("model.embeddings.tok_embeddings.weight", "embeddings"),
        ("model.final_norm.weight", "final_norm"),
        ("head.dense.weight", "head"),
        ("decoder.bias", "decoder"),
        ("cls.predictions.transform.dense.weight", "cls.predictions"),
        ("encoder.encoder.layer.1.output.dense.weight", "encoder layer 1"),
        ("decoder.bert.encoder.layer.1.output.dense.weight", "decoder layer 1"),
        ("decoder.bert.embeddings.word_embeddings.weight", "decoder embeddings"),
        ("classifier.weight", "classifier"),
    ],
)
def test_the_part_of_a_tensor(name: str, part: str) -> None:
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["{tmp}/nowhere"], 1, "does not exist"),
        (["{tmp}"], 1, "holds nothing bertwright makes"),
        (["{tmp}/data", "--document", "30"], 2, "documents 0 to 29"),
        (["{tmp}/data", "--split", "valid"], 1, "its splits are train"),
        (["{tmp}/data", "--batch", "-1"], 2, "counts from 0"),
        (["{tmp}/data", "--batch", "1", "--pack"], 2, "give --no-next-sentence too"),
        (["{tmp}/data/train-00000.arrow", "--batch", "1"], 2, "--batch looks into a DATA folder"),
        (["{tmp}/data", "--batches", "1"], 2, "--batches"),
    ],
)
def test_calls_that_do_not_fit_are_refused(
    data: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert message in shown(capsys, *(word.format(tmp=data.parent) for word in words), code=code)


def test_a_recipe_shows_every_setting_with_its_meaning() -> None:
    result = show_settings("fast")
    assert "optimizer.muon_iterations = 3" in str(result)
    assert "Iterations of Muon's orthogonalisation" in str(result)
    assert result["settings"]["optimizer.muon_iterations"]["value"] == 3
    leaves = list(settings_of(resolve("fast", {})))
    assert {name for name, _, _ in leaves} >= {"size", "model.architecture", "data.fill_rows", "schedule.phases"}
    assert all(meaning for _, _, meaning in leaves), "a setting without a description"
