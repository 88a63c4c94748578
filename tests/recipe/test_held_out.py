"""Held-out figures: one measure whatever a run trains with, in training, by `evaluate` and by stock transformers."""

from __future__ import annotations

import json
import math
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bertwright.hub.cards.model_cards import model_card
from bertwright.log import Facts, print_blocks
from bertwright.reports.html_report import write_report
from bertwright.reports.pretrain_result import facts
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.pretrain import pretrain

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "size": "tiny",
    "schedule": {"steps": 10, "phases": [{"length": 32, "rows": 8, "share": 1.0}]},
    "engine": {"compile": False, "precision": "fp32", "log_every": 5, "evaluations": 2, "evaluation_rows": 64},
}
OTHER_MASKS = {"mask_rate": 0.5, "final_mask_rate": 0.4, "mask_share": 1.0, "random_share": 0.0}


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with both objectives, trained on other masks than it is measured on."""
    folder = tmp_path_factory.mktemp("held-out") / "run"
    pretrain(data, folder, settings={**SMALL, "objective": OTHER_MASKS})
    return folder


@pytest.fixture
def stock(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """benchmarks/peers/evaluate_folders.py as a function of its arguments, which returns what it prints."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "peers")
    import evaluate_folders

    def run_it(*words: object) -> Any:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["evaluate_folders.py", *map(str, words)])
        evaluate_folders.main()
        return json.loads(capsys.readouterr().out)

    return run_it


@pytest.mark.parametrize("whole_word", [False, True])
@pytest.mark.parametrize("kind", ["mlm", "nsp"])
def test_a_model_is_measured_alike_whatever_it_was_trained_on(
    data: Path, tmp_path: Path, kind: str, whole_word: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate` on the data of the run takes its rows and masks, and says where they are others."""
    objective = {**OTHER_MASKS, "whole_word": whole_word, "next_sentence": kind == "nsp"}
    figures = pretrain(data, tmp_path / "run", settings={**SMALL, "objective": objective})
    again = evaluate(kind, tmp_path / "run" / "model", data)
    assert "same rows and masks" in capsys.readouterr().err
    assert again.pop("rows")["masked"] == ("whole words" if whole_word else "single tokens")
    assert again.pop("mlm_perplexity") == pytest.approx(math.exp(again["mlm_loss"]))
    assert again == pytest.approx(
        {name: v for name, v in figures["valid"].items() if "perplexity" not in name}, abs=2e-5
    )
    other = evaluate(kind, tmp_path / "run" / "model", data, length=32, num_rows=64, whole_word=not whole_word)
    assert other["mlm_loss"] != pytest.approx(figures["valid"]["mlm_loss"], abs=2e-5)
    assert f"mlm loss {figures['valid']['mlm_loss']:.4f}" in " ".join(capsys.readouterr().err.split())
    if kind == "nsp":
        evaluate("mlm", tmp_path / "run" / "model", data, num_rows=100)
        output = " ".join(capsys.readouterr().err.split())
        assert re.search("64 rows of 32 tokens.*pairs", output)
        assert re.search("96 rows.*100", output)


def test_stock_transformers_gives_the_same_figures(data: Path, run: Path, stock: Any) -> None:
    model = run / "model"
    options = (model, "--data", data, "--length", 32, "--rows", 64)
    expected = {
        (): evaluate("mlm", model, data, length=32, num_rows=64, whole_word=True),
        ("--single-tokens",): evaluate("mlm", model, data, length=32, num_rows=64),
        ("--nsp",): {
            name: value
            for name, value in evaluate("nsp", model, data, length=32, num_rows=64).items()
            if name.startswith("nsp_")
        },
    }
    assert expected[()]["rows"] == {"split": "valid", "number": 64, "length": 32, "masked": "whole words"}
    assert expected["--single-tokens",]["rows"]["masked"] == "single tokens"
    for flags, figures in expected.items():
        found = stock(*options, *flags)[str(model)]
        assert found.pop("parameters") > 100_000
        for ours_alone in ("mlm_perplexity", "mlm_nats_per_byte", "rows"):
            figures.pop(ours_alone, None)
        assert found == pytest.approx(figures, abs=1e-4), flags


def test_a_modern_classifier_of_pairs_is_evaluated_by_the_names_of_its_labels(
    data: Path, run: Path, tmp_path: Path, stock: Any
) -> None:
    names = {"is_next": 1, "random": 0}
    config = transformers.ModernBertConfig(
        vocab_size=512, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
        label2id=names, id2label={place: name for name, place in names.items()},
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.ModernBertForSequenceClassification(config)
    with torch.no_grad():  # the logit at place 0 always wins: "random"
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([3.0, -3.0]))
    model.save_pretrained(tmp_path / "random")
    found = stock(tmp_path / "random", "--data", data, "--length", 32, "--rows", 64, "--nsp")[str(tmp_path / "random")]
    share = evaluate("nsp", run / "model", data, length=32, num_rows=64)["nsp_majority"]
    assert found["nsp_balanced_accuracy"] == 0.5
    assert found["nsp_majority"] == pytest.approx(share, abs=1e-4)
    assert found["nsp_accuracy"] == pytest.approx(found["nsp_majority"], abs=1e-4)  # here random pairs are the commoner
    model.config.id2label, model.config.label2id = {0: "a", 1: "b"}, {"a": 0, "b": 1}
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(SystemExit, match=r"labels.*a, b"):
        stock(tmp_path / "other", "--data", data, "--nsp")


def test_a_folder_without_the_head_is_not_evaluated(data: Path, run: Path, tmp_path: Path, stock: Any) -> None:
    transformers.BertForMaskedLM.from_pretrained(run / "model").save_pretrained(tmp_path / "masked")
    assert stock(tmp_path / "masked", "--data", data, "--length", 32, "--rows", 32)
    with pytest.raises(SystemExit, match=r"cls\.seq_relationship"):
        stock(tmp_path / "masked", "--data", data, "--length", 32, "--rows", 32, "--nsp")


def test_next_sentence_figures_stand_beside_those_of_a_constant_answer(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = json.loads((run / "result.json").read_text(encoding="utf-8"))
    valid = figures["valid"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[-1]["valid"] == valid
    assert 0.5 <= valid["nsp_majority"] < 1
    assert valid["mlm_perplexity"] == pytest.approx(math.exp(valid["mlm_loss"]), rel=1e-6)
    shown = {name: f"{valid[name]:.1%}" for name in ("nsp_accuracy", "nsp_majority", "nsp_balanced_accuracy")}
    shown["mlm_perplexity"] = f"{valid['mlm_perplexity']:,.1f}"
    capsys.readouterr()
    print_blocks(Facts("run", facts(figures)))
    for text in (capsys.readouterr().out, model_card("run", figures)):
        assert all(value in text for value in shown.values())
        assert "chance" not in text
    report = (run / "report.html").read_text(encoding="utf-8")
    assert f"{valid['nsp_balanced_accuracy']:.4f}" in report
    assert "chance" not in report


def test_a_run_of_an_earlier_version_is_still_shown(run: Path, tmp_path: Path) -> None:
    """Its figures hold the plain accuracy alone."""
    valid = {"mlm_loss": 6.0, "mlm_accuracy": 0.1, "nsp_loss": 0.6, "nsp_accuracy": 0.65}
    for name in ("manifest.json", "config.toml"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    figures = {**json.loads((run / "result.json").read_text(encoding="utf-8")), "valid": valid}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    changed = [{**line, "valid": valid} if "valid" in line else line for line in lines]
    (tmp_path / "result.json").write_text(json.dumps(figures), encoding="utf-8")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed), encoding="utf-8")
    assert "0.6500" in write_report(tmp_path).read_text(encoding="utf-8")
    assert facts(figures)["held-out NSP accuracy"] == "65.0%"
    assert "65.0%" in model_card("run", figures)


def test_the_number_of_evaluations_follows_from_the_work_and_is_kept(data: Path, tmp_path: Path) -> None:
    engine = {name: value for name, value in SMALL["engine"].items() if name != "evaluations"} | {"evaluation_rows": 32}
    evaluated = {}
    for steps in (2, 60):
        schedule = {"steps": steps, "phases": [{"length": 32, "rows": 16, "share": 1.0}]}
        settings = {**SMALL, "schedule": schedule, "engine": engine}
        pretrain(data, tmp_path / str(steps), recipe="classic", settings=settings)
        lines = [json.loads(line) for line in (tmp_path / str(steps) / "metrics.jsonl").read_text().splitlines()]
        evaluated[steps] = [line["step"] for line in lines if "valid" in line]
        kept = tomllib.loads((tmp_path / str(steps) / "config.toml").read_text(encoding="utf-8"))
        assert kept["engine"]["evaluations"] == len(evaluated[steps])
    assert evaluated[2] == [2]
    assert evaluated[60] == [20, 40, 60]  # 5% of 60 x 16 rows, forward and backward, are 144 rows forward; one is 38


def test_a_run_of_minutes_goes_on_with_the_number_it_began_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = {"minutes": 0.1, "phases": SMALL["schedule"]["phases"]}
    engine = {**SMALL["engine"], "evaluations": None, "checkpoint_steps": 5}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bertwright.train.callbacks.save.CheckpointCallback.on_step", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(data, tmp_path / "run", settings={**SMALL, "schedule": schedule, "engine": engine})
    file = tmp_path / "run" / "config.toml"
    first = tomllib.loads(file.read_text(encoding="utf-8"))["engine"]["evaluations"]
    assert 1 <= first <= 20
    monkeypatch.setattr(
        "bertwright.verbs.calls.pretrain_training.peak_flops", lambda *_, **__: 1.0
    )  # far too slow for more than one
    pretrain(data, tmp_path / "run", resume=True)
    assert tomllib.loads(file.read_text(encoding="utf-8"))["engine"]["evaluations"] == first
