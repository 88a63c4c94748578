"""The verb bench: each stage gives its figures as JSON with machine and versions; a run is evaluated beside a peer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bertwright.cli.main import main
from bertwright.verbs.prepare import prepare

SHORT = ["--size", "tiny", "--engine.compile", "false", "--engine.precision", "fp32"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for index in range(60):
        lines = [f"Town {index} has {line} rivers. It rains there in month {line}." for line in range(20)]
        (folder / f"{index}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "data"
    prepare([texts], out, vocab_size=512, valid_fraction=0.1)
    return out


def figures_of(words: list[str], out: Path) -> dict[str, Any]:
    assert main(["bench", *words, "--out", str(out)]) == 0
    figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    assert {"what", "machine", "versions"} <= figures.keys()
    return figures


@pytest.mark.usefixtures("whole")
def test_step(data: Path, tmp_path: Path) -> None:
    figures = figures_of(["step", "--data", str(data), "--steps", "6", *SHORT], tmp_path / "step.json")
    assert figures["tokens_per_second"] > 0
    assert 0 < figures["mfu"] < 1.5
    assert {"draw", "mask", "forward", "backward", "clip", "Muon", "AdamW"} == set(figures["milliseconds"])


def test_prepare(texts: Path, data: Path, tmp_path: Path) -> None:
    words = ["prepare", str(texts), "--tokenizer", str(data / "tokenizer")]
    figures = figures_of(words, tmp_path / "prepare.json")
    assert figures["text_bytes"] == sum(len(p.read_bytes()) for p in texts.iterdir())
    assert figures["disk_bytes"] > 0
    assert figures["peak_memory_bytes"] > 10_000_000


def test_prepare_says_what_failed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "prepare", str(tmp_path / "none"), "--tokenizer", str(data / "tokenizer")]) == 1
    assert "none" in capsys.readouterr().err


@pytest.mark.usefixtures("whole")
def test_pretrain_finetune_and_predict(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run beside itself: the second, longer one reaches the first, and its report shows both curves."""
    words = ["--recipe", "fast", *SHORT, "--engine.evaluations", "2"]
    peer = ["pretrain", "--data", str(data), "--out", str(tmp_path / "peer"), "--steps", "4", *words]
    assert main(peer) == 0
    words += ["--schedule.steps", "60", "--data", str(data), "--peer", str(tmp_path / "peer" / "model")]
    figures = figures_of(["pretrain", *words, "--run", str(tmp_path / "run")], tmp_path / "pretrain.json")
    assert figures["reached"] is (figures["ours"]["mlm_loss"] <= figures["peer"]["mlm_loss"]) is True
    assert "peer, held out" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    model = str(tmp_path / "run" / "model")
    figures = figures_of(["predict", "--model", model, "--sentences", "40"], tmp_path / "predict.json")
    assert figures["sentences_per_second"] > 0
    labelled = tmp_path / "labelled.tsv"
    lines = [f"It rains in town {index}.\t{index % 2}\n" for index in range(100)]
    labelled.write_text("text\tlabel\n" + "".join(lines), encoding="utf-8")
    words = ["finetune", "classify", "--model", model, "--train", str(labelled)]
    figures = figures_of([*words, "--steps", "3", "--batches.rows", "20"], tmp_path / "finetune.json")
    assert figures["examples_per_second"] > 0
    assert 0 < figures["mfu"] < 1.5
    assert main(["bench", *words, "--schedule.epochs", "1"]) == 2
    assert "4 steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["step"], "this needs --data DATA"),
        (["prepare"], "needs an INPUT"),
        (["predict"], "this needs --model DIR"),
        (["finetune"], "needs a task"),
        (["finetune", "classify", "--model", "m"], "this needs --train FILE"),
        (["predict", "--model", "m", "--steps", "3"], "takes no --steps"),
        (["predict", "some", "--model", "m"], "takes no 'some'"),
        (["prepare", "a.txt", "--tokenizer", "t", "--model.layers", "3"], "takes no settings"),
        (["nothing"], "nothing"),
    ],
)
def test_missing_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err
