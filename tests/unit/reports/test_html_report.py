"""Pages of runs: complete, and whatever a corpus, a label or a file name holds is text in them."""

from __future__ import annotations

import json
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import bertwright
from bertwright.log import ResultTable
from bertwright.reports import curves
from bertwright.reports.html_report import write_report, write_task_progress, write_task_report
from bertwright.tasks.eval_result import EvalResult, Mistake
from bertwright.train.checkpoint.task_resume import is_done

HOSTILE = "<script>alert('x')</script>&amp;"
LINE: dict[str, Any] = {
    "step": 10,
    "seconds": 60.0,
    "loss": 5.0,
    "mlm_loss": 5.0,
    "learning_rate": 1e-3,
    "tokens_per_second": 1000.0,
    "mfu": 0.3,
    "valid": {"mlm_loss": 4.9, "mlm_accuracy": 0.2, "accuracy": 0.8, "loss": 0.4},
    "samples": [{"text": f"a [MASK] {HOSTILE}", "truth": "cat", "predictions": [["cat", 0.5], [HOSTILE, 0.2]]}],
}
MACHINE = {"processor": "a CPU", "threads": 2}


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        """Read it."""
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Keep text."""
        self.text += data


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(curves, "draw", lambda drawers, lines: "<svg></svg>")
    folder = tmp_path / "a <b> run"
    folder.mkdir()
    (folder / "config.toml").write_text(f'data = "{HOSTILE}"\n')
    return folder


def put(folder: Path, manifest: dict[str, Any], result: dict[str, Any] | None, lines: list[dict[str, Any]]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))


def test_the_page_of_a_pretraining_run(run: Path) -> None:
    result = {
        "valid": {"mlm_loss": 4.9}, "unigram_entropy": 6.0, "steps": 10, "tokens": 1000, "epochs": 0.5,
        "seconds": 60.0, "setup_seconds": 3.0, "tokens_per_second": 1000.0, "mfu": 0.3, "size": "tiny",
        "parameters": 1000,
    }  # fmt: skip
    put(run, {"unigram_entropy": 6.0, "precision": HOSTILE, "machine": MACHINE}, result, [LINE])
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.tags.count("svg") == 2
    assert page.text.count(HOSTILE) == 4, "as they are in: a fact, a sample, a prediction, the settings"
    assert "4.9000" in page.text
    assert "a <b> run" in page.text
    assert "was: cat" in page.text


def test_the_page_of_a_run_that_went_on_from_a_model(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first line is an evaluation before the first step; before and after stand side by side, probes are drawn."""
    monkeypatch.undo()
    first = {
        "step": 0,
        "seconds": 3.0,
        "valid": {"mlm_loss": 6.1},
        "samples": LINE["samples"],
        "probes": {"blimp": 0.5},
    }
    before, after = {"nats_per_token": 6.1, "nats_per_byte": 1.5, "accuracy": 0.1}, {"nats_per_token": 4.9}
    result = {
        "valid": {"mlm_loss": 4.9}, "unigram_entropy": 6.0, "steps": 10, "tokens": 1000, "epochs": 0.5,
        "seconds": 60.0, "setup_seconds": 3.0, "tokens_per_second": 1000.0, "mfu": 0.3, "size": "tiny",
        "parameters": 1000, "start": {"model_type": "bert", "sha256": "ab" * 32},
        "probes": {"blimp": {"kind": "9 minimal pairs", "chance": 0.5, "first": 0.5, "accuracy": 0.625}},
        "before_after": {
            "texts": {HOSTILE: {"role": "domain", "before": before, "after": before | after}},
            "samples": [{"text": "a [MASK]", "label": "cat", "before": [["dog", 0.25]], "after": [[HOSTILE, 0.5]]}],
        },
    }  # fmt: skip
    manifest = {"unigram_entropy": 6.0, "precision": "fp32", "machine": MACHINE}
    put(run, manifest, result, [first, LINE | {"probes": {"blimp": 0.625}}])
    written = write_report(run).read_text(encoding="utf-8")
    page = Page(written)
    assert "script" not in page.tags
    for text in ("6.1000", "4.9000", "-1.2000", "dog 25%", f"{HOSTILE} 50%", "50.0% to 62.5%", "ab" * 32):
        assert text in page.text
    assert "<!-- accuracy of probes -->" in written


def test_the_page_of_a_run_that_was_stopped(run: Path) -> None:
    put(run, {"unigram_entropy": 6.0, "precision": "fp32", "machine": MACHINE}, None, [LINE] * 8)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "step 10, 1.0 minutes" in page.text
    assert page.text.count("step 10") == 1 + 6, "about six evaluations are shown"
    put(run, {}, None, [])
    assert "Settings" in Page(write_report(run).read_text(encoding="utf-8")).text


def test_the_page_of_a_fine_tuning_run(run: Path) -> None:
    result = {
        "task": "classify", "model": HOSTILE, "architecture": "bert", "parameters": 1000, "dev": {"accuracy": 0.8},
        "mean": {"dev": {"accuracy": 0.7}}, "spread": {"dev": {"accuracy": 0.1}}, "seeds": [{}, {}], "epochs": 3.0,
        "steps": 10, "seconds": 60.0, "seed": 0, "best_step": 10, "metric": "accuracy", "examples_per_second": 5.0,
        "tokens_per_second": 1000.0, "dev_fraction": 0.1,
    }  # fmt: skip
    examples = {"train": 100, "dev": 10}
    manifest = {"machine": MACHINE, "examples": examples, "precision": "fp32", "overlaps": {"dev": {"train": 3}}}
    put(run, manifest, result, [LINE])
    table = ResultTable(HOSTILE, ["", HOSTILE], [[HOSTILE, "1"]])
    errors = [Mistake(HOSTILE + "x" * 1000, HOSTILE, HOSTILE, 1.0)]
    page = Page(write_task_report(run, {"dev": EvalResult({}, table, errors, HOSTILE)}).read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) == 9
    assert "x" * 500 in page.text
    assert "x" * 600 not in page.text
    for text in ("0.7000 ± 0.1000", "3 of 10 also in train", "0.1 of the training file", "best accuracy on dev"):
        assert text in page.text


def test_the_page_of_a_fine_tuning_run_that_trains(run: Path) -> None:
    """It is not taken for that of a run that is done: such a one goes on where it stands."""
    put(run, {}, None, [LINE | {"fraction": 0.25}])
    page = Page(write_task_progress(run, run, task="classify", metric="accuracy").read_text(encoding="utf-8"))
    assert page.text.count(HOSTILE) == 1
    for text in ("25% of the run", "dev accuracy", "0.8000"):
        assert text in page.text
    assert not is_done(run)
    (run / "report.html").write_text("<!doctype html>")
    assert is_done(run)


def test_templates_are_shipped() -> None:
    package = Path(bertwright.__file__).parent
    settings = tomllib.loads((package.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["bertwright"]
    shipped = {file for pattern in patterns for file in package.glob(pattern)}
    templates = {file for folder in package.rglob("templates") for file in folder.iterdir()}
    assert templates
    assert templates <= shipped
