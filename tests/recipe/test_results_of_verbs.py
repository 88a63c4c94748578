"""Every verb: with --json one document on stdout and nothing else; in Python the same figures, for any kind of path."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import bertwright
from bertwright.cli.main import main
from bertwright.result import Result
from bertwright.verbs import VERBS

SHORT: dict[str, Any] = {
    "schedule": {"steps": 4, "phases": [{"length": 32, "rows": 4, "share": 1.0}]},
    "engine": {"compile": False, "precision": "fp32", "evaluations": 1, "evaluation_rows": 32, "log_every": 2},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text, DATA, a RUN of four steps, and a model for a task; all made with names given as str."""
    folder = tmp_path_factory.mktemp("made")
    lines = [f"Town {n} has {n % 7} rivers. It rains there in month {n % 12}." for n in range(400)]
    (folder / "text.txt").write_text("\n\n".join("\n".join(lines[n : n + 8]) for n in range(0, 400, 8)))
    rows = [f"It rains in town {n}.\t{'wet' if n % 2 else 'dry'}" for n in range(48)]
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    bertwright.prepare(str(folder / "text.txt"), str(folder / "data"), vocab_size=512, valid_fraction=0.1)
    bertwright.pretrain(str(folder / "data"), str(folder / "run"), size="tiny", settings=SHORT)
    bertwright.finetune(
        "classify", str(folder / "run" / "model"), str(folder / "train.tsv"), str(folder / "dev.tsv"),
        str(folder / "task"), epochs=1, precision="fp32", seq_length=32,
    )  # fmt: skip
    return folder


LABELLED = ["--train", "train.tsv"]
CALLS = {
    "prepare": ["text.txt", "--out", "NEW", "--vocab-size", "512"],
    "doctor": ["text.txt"],
    "pretrain": ["--data", "data", "--out", "NEW", "--size", "tiny", "--dry-run"],
    "evaluate": ["mlm", "--model", "run/model", "--data", "data", "--length", "32", "--num-rows", "32"],
    "finetune": ["classify", "--model", "run/model", *LABELLED, "--out", "NEW", "--dry-run"],
    "tune": ["classify", "--model", "run/model", *LABELLED, "--minutes", "9", "--out", "NEW", "--dry-run"],
    "distill": ["classify", "--teacher", "task/model", *LABELLED, "--layers", "1", "--out", "NEW", "--dry-run"],
    "predict": ["--model", "task/model", "It rains.", "It does not."],
    "embed": ["--model", "run/model", "--input", "text.txt", "--out", "NEW.npy"],
    "export": ["--model", "task/model", "--out", "NEW"],
    "plan": ["--hours", "1", "--gpu", "h100"],
    "inspect": ["run/model", "--out", "NEW.html", "--text", "It rains."],
    "watch": ["run", "--out", "NEW.html"],
    "show": ["data", "--batch", "0", "--length", "32"],
    "verify": ["run"],
    "bench": ["step", "--data", "data", "--size", "tiny", "--steps", "2", "--engine.compile", "false"],
}


@pytest.mark.parametrize("verb", CALLS)
def test_json_is_all_there_is_on_stdout(
    verb: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if verb == "export" and not find_spec("onnx"):
        pytest.skip("onnx is not installed")
    monkeypatch.chdir(made)
    words = [word.replace("NEW", str(tmp_path / "new")) for word in CALLS[verb]]
    assert main([verb, *words, "--json"]) == 0
    printed = capsys.readouterr().out
    documents = [json.loads(line) for line in printed.splitlines()] if verb == "predict" else [json.loads(printed)]
    assert all(isinstance(document, (dict, list)) and document for document in documents)
    assert len(documents) == (2 if verb == "predict" else 1)


def test_every_verb_is_called() -> None:
    assert {*CALLS, "quickstart", "serve"} == {*VERBS}


def test_python_returns_what_the_command_line_prints(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For names given as Path."""
    monkeypatch.chdir(made)
    model, task, data = Path("run/model"), Path("task/model"), Path("data")
    results = {
        "doctor": bertwright.doctor(Path("text.txt")),
        "evaluate": bertwright.evaluate("mlm", model, data, length=32, num_rows=32),
        "finetune": bertwright.finetune("classify", model, Path("train.tsv"), out=tmp_path / "new", dry_run=True),
        "predict": bertwright.predict(task, ["It rains.", "It does not."]),
        "pretrain": bertwright.pretrain(data, tmp_path / "new", size="tiny", dry_run=True),
        "show": bertwright.show(data, batch=0, length=32),
        "verify": bertwright.verify(Path("run")),
    }
    assert capsys.readouterr().out == ""
    for verb, result in results.items():
        words = [word.replace("NEW", str(tmp_path / "new")) for word in CALLS[verb]]
        assert main([verb, *words]) == 0
        shown = capsys.readouterr().out
        free = [line for line in shown.splitlines() if "free" not in line]  # the disk is used by others, too
        assert all(line in str(result) for line in free), verb


def test_curves_of_a_run_are_its_metrics(made: Path, tmp_path: Path) -> None:
    if not find_spec("tensorboard"):
        pytest.skip("tensorboard is not installed; pip install 'bertwright[track]' brings it")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def curve(folder: Path, name: str) -> dict[int, float]:
        events = EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        return {event.step: event.value for event in events.Scalars(name)}

    run = tmp_path / "run"
    first = bertwright.pretrain(made / "data", run, size="tiny", track="tensorboard", settings=SHORT)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert curve(run, "loss") == pytest.approx({line["step"]: line["loss"] for line in lines})
    assert curve(run, "valid/mlm_loss")[4] == pytest.approx(first["valid"]["mlm_loss"])
    again = bertwright.finetune(
        "classify", run / "model", made / "train.tsv", made / "dev.tsv", tmp_path / "task", epochs=1, num_seeds=2,
        seq_length=32, track="tensorboard",
    )  # fmt: skip
    assert isinstance(again, Result)
    for seed in ("0", "1"):
        assert curve(tmp_path / "task" / "seeds" / seed, "valid/accuracy")
