"""Short real runs: the loss falls, a resumed run equals one never stopped bit for bit, bad calls say what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertwright.cli.main import main
from bertwright.errors import (
    ConfigError,
    DataError,
    DiskSpaceError,
    ModelError,
    OutputExistsError,
    TrainingError,
    UsageError,
)
from bertwright.hub.encoder_folder import load_model
from bertwright.reports.pretrain_result import TIMED_IN_LINES
from bertwright.train.state import LossScale
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.pretrain import pretrain

SMALL: dict[str, Any] = {
    "size": "tiny",
    "schedule": {
        "steps": 12,
        "phases": [{"length": 32, "rows": 8, "share": 0.75}, {"length": 64, "rows": 4, "share": 0.25}],
    },
    "engine": {"compile": False, "precision": "fp32", "log_every": 5, "evaluations": 2, "evaluation_rows": 32},
}
SPANS: dict[str, Any] = {
    "names": ["span"],
    "options": {"span": {"boundary": True}},
    "mask_phases": [{"rate": 0.3, "share": 0.5}, {"rate": 0.15, "share": 0.25}, {"rate": 0.05, "share": 0.25}],
}


def laid_over(settings: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {**settings, **{name: {**settings.get(name, {}), **value} for name, value in sections.items()}}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMED_IN_LINES} for line in lines]


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `classic`, which tests read and leave as it is."""
    run = tmp_path_factory.mktemp("done") / "run"
    pretrain(data, run, recipe="classic", settings=SMALL)
    return run


@pytest.mark.parametrize("recipe", ["classic", "classic-fast", "classic-muon", "fast"])
def test_the_loss_falls_and_the_run_folder_is_whole(data: Path, tmp_path: Path, recipe: str) -> None:
    settings = laid_over(SMALL, schedule={**SMALL["schedule"], "steps": 60})
    figures = pretrain(data, tmp_path / "run", recipe=recipe, settings=settings)
    lines = metrics(tmp_path / "run")
    # those that start from the corpus are past the unigram model before their first step
    first = figures["unigram_entropy"] if recipe in ("classic-fast", "fast") else lines[0]["mlm_loss"]
    assert figures["valid"]["mlm_loss"] < min(0.8 * first, lines[0]["mlm_loss"])
    assert lines[-1]["learning_rate"] < 0.1 * max(line["learning_rate"] for line in lines)
    assert {"length"} <= lines[0].keys()
    assert [line["length"] for line in lines] == sorted(line["length"] for line in lines)
    for name in (
        "config.toml",
        "manifest.json",
        "result.json",
        "report.html",
        "model/config.json",
        "model/tokenizer.json",
    ):
        assert (tmp_path / "run" / name).is_file(), name


@pytest.mark.usefixtures("whole")
def test_the_report_has_pictures_and_the_rate_is_that_of_the_machine(data: Path, tmp_path: Path) -> None:
    figures = pretrain(data, tmp_path / "run", settings=SMALL)
    assert "<svg" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert figures["peak_flops"] > 1e8
    assert 0 < figures["mfu"] < 1.5


@pytest.mark.parametrize(
    ("recipe", "optimizer", "average", "over", "stopped_by"),
    [
        ("classic", "adamw", "none", {}, "a kill"),
        ("classic-muon", "muon", "ema", {}, "a kill"),
        ("fast", "muon", "tail", {}, "a copy"),
        ("classic-fast", "muon", "none", {}, "a copy"),
        ("classic", "lamb", "ema", {}, "a copy"),
        ("fast", "stable-adamw", "tail", {}, "a copy"),
        ("fast", "muon", "none", {"data": {"pack": True}}, "a kill"),
        ("classic", "adamw", "none", {"data": {"pack": True}, "objective": {"next_sentence": False}}, "a copy"),
        ("fast", "muon", "none", {"data": {"pack": True}, "objective": SPANS}, "a copy"),
        ("classic", "adamw", "ema", {"objective": {"names": ["macbert", "nsp"]}}, "a copy"),
    ],
)
def test_a_resumed_run_equals_one_never_stopped(
    data: Path, tmp_path: Path, recipe: str, optimizer: str, average: str, over: dict[str, Any], stopped_by: str
) -> None:
    """Dropout, two phases, accumulation and a checkpoint between two metrics lines: everything that could drift.

    Also averaged weights, weight decay that moves, and packed rows. Some runs are killed after step 8; the others go on
    in a copy of the whole run that has its checkpoint of step 7 alone, which is the same without the first 8 steps.
    """
    settings = laid_over(
        SMALL,
        model={"dropout": 0.1, "attention_dropout": 0.1},
        optimizer={"name": optimizer, "final_weight_decay": 0.1, "final_muon_weight_decay": 0.1},
        average={"name": average, "share": 0.6},
        engine={"accumulation": 2, "checkpoint_steps": 7},
        **over,
    )
    whole = pretrain(data, tmp_path / "whole", recipe=recipe, settings=settings)
    stopped = tmp_path / "stopped"
    if stopped_by == "a kill":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bertwright.train.callbacks.save.CheckpointCallback.on_step", stop_at(8))
            with pytest.raises(KeyboardInterrupt):
                pretrain(data, stopped, recipe=recipe, settings=settings)
    else:
        later = shutil.ignore_patterns("step-12", "model", "result.json", "report.html", ".lock")
        shutil.copytree(tmp_path / "whole", stopped, ignore=later)
    assert [p.name for p in (stopped / "checkpoints").iterdir()] == ["step-7"]
    resumed = pretrain(data, stopped, recipe=recipe, settings=settings, resume=True)
    for name, tensor in weights(tmp_path / "whole").items():
        assert torch.equal(tensor, weights(stopped)[name]), name
    assert metrics(tmp_path / "whole") == metrics(stopped)
    assert {n: v for n, v in whole.items() if n in ("steps", "tokens", "loss", "valid")} == {
        n: v for n, v in resumed.items() if n in ("steps", "tokens", "loss", "valid")
    }


def test_a_run_in_float16_whose_steps_are_made_again_goes_on_as_it_was(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss scale is far too large at first, so that it falls along the run, and rises again."""
    monkeypatch.setattr(LossScale.__init__, "__defaults__", (2.0**32, 0, 0))
    monkeypatch.setattr("bertwright.train.state.SCALE_LASTS", 3)
    settings = laid_over(SMALL, engine={"precision": "fp16", "checkpoint_steps": 7})
    whole = pretrain(data, tmp_path / "whole", recipe="fast", settings=settings)
    assert whole["overflows"] > 3
    later = shutil.ignore_patterns("step-12", "model", "result.json", "report.html", ".lock")
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped", ignore=later)
    monkeypatch.undo()
    monkeypatch.setattr("bertwright.train.state.SCALE_LASTS", 3)
    resumed = pretrain(data, tmp_path / "stopped", recipe="fast", settings=settings, resume=True)
    assert resumed["overflows"] == whole["overflows"]
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "stopped")
    assert all(
        torch.equal(tensor, weights(tmp_path / "stopped")[name]) for name, tensor in weights(tmp_path / "whole").items()
    )


def test_steps_that_are_made_again_in_float16_train_what_a_scale_that_fits_trains(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a recipe whose small steps do not make much of rounding, as those of `fast` do: 2% in 12 steps."""
    found = {}
    for scale in (2.0**32, 2.0**13):
        monkeypatch.setattr(LossScale.__init__, "__defaults__", (scale, 0, 0))
        settings = laid_over(SMALL, engine={"precision": "fp16"})
        found[scale] = pretrain(data, tmp_path / f"{scale:g}", recipe="classic", settings=settings)
    assert [one.get("overflows", 0) > 3 for one in found.values()] == [True, False]
    again, fitting = (one["valid"]["mlm_loss"] for one in found.values())
    assert again == pytest.approx(fitting, rel=1e-3)


@pytest.mark.parametrize("architecture", ["bert", "modern"])
def test_packed_rows_hold_more_tokens_and_are_learned_from(data: Path, tmp_path: Path, architecture: str) -> None:
    """Rows of 256 hold several of these documents; held-out rows stay single, so that figures can be compared."""
    runs = {}
    for pack in (False, True):
        settings = laid_over(
            SMALL,
            model={"architecture": architecture},
            data={"pack": pack},
            schedule={"steps": 30, "phases": [{"length": 256, "rows": 4, "share": 1.0}]},
        )
        runs[pack] = pretrain(data, tmp_path / str(pack), recipe="fast", settings=settings)
    assert 0.98 * 30 * 4 * 256 < runs[True]["tokens"] <= 30 * 4 * 256
    assert runs[False]["tokens"] < 0.8 * runs[True]["tokens"]
    assert runs[True]["valid"]["mlm_loss"] < 0.9 * metrics(tmp_path / "True")[0]["mlm_loss"]


def stop_at(step: int) -> Any:
    """Return a checkpoint callback that saves as usual and dies after `step`, as a kill would."""
    from bertwright.train.callbacks.save import CheckpointCallback

    usual = CheckpointCallback.on_step

    def callback(self: CheckpointCallback, report: Any) -> None:
        usual(self, report)
        if report.progress.step == step:
            raise KeyboardInterrupt

    return callback


def test_the_same_seed_gives_the_same_weights_and_another_does_not(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        pretrain(
            data,
            tmp_path / name,
            settings={**laid_over(SMALL, schedule={**SMALL["schedule"], "steps": 4}), "seed": seed},
        )
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_accumulation_trains_on_the_same_number_of_rows(data: Path, tmp_path: Path, done: Path) -> None:
    two = pretrain(data, tmp_path / "two", settings=laid_over(SMALL, engine={**SMALL["engine"], "accumulation": 2}))
    one = json.loads((done / "result.json").read_text())
    assert one["epochs"] == two["epochs"]
    assert one["steps"] == two["steps"] == 12


@pytest.mark.parametrize("recipe", ["classic", "fast"])
@pytest.mark.parametrize("optimizer", ["lamb", "stable-adamw"])
def test_the_loss_falls_with_every_optimizer(data: Path, tmp_path: Path, recipe: str, optimizer: str) -> None:
    """Also with what a recipe may choose besides: a mask rate that moves, masks alone, a held peak."""
    settings = laid_over(
        SMALL,
        model={"init": "noise", "neighbour_start": recipe == "fast"},
        objective={"mask_rate": 0.3, "final_mask_rate": 0.15, "mask_share": 1.0, "random_share": 0.0},
        optimizer={"name": optimizer, "learning_rate": 0.01},
        schedule={"steps": 60, "decay": "one-minus-sqrt", "decay_share": 0.5, "final_rate": 0.1},
    )
    figures = pretrain(data, tmp_path / "run", recipe=recipe, settings=settings)
    lines = metrics(tmp_path / "run")
    assert figures["valid"]["mlm_loss"] < 0.9 * lines[0]["mlm_loss"]
    assert lines[-1]["learning_rate"] == pytest.approx(0.1 * 0.01, rel=0.5)


def test_the_better_of_mean_and_last_weights_is_exported(data: Path, tmp_path: Path) -> None:
    """At a rate held high to the end the mean of the last half is better; both are evaluated, and the folder has it."""
    settings = laid_over(
        SMALL,
        optimizer={"learning_rate": 0.02},
        schedule={"steps": 60, "final_rate": 1.0},
        average={"name": "tail", "share": 0.5},
    )
    figures = pretrain(data, tmp_path / "run", settings=settings)
    evaluated = metrics(tmp_path / "run")[-1]["valid"]
    assert figures["weights"] == "average"
    assert figures["valid"]["mlm_loss"] == evaluated["average_mlm_loss"] < evaluated["mlm_loss"]
    again = evaluate("nsp", tmp_path / "run" / "model", data, length=32, num_rows=32)
    assert again.pop("rows")["length"] == 32
    assert again == pytest.approx(figures["valid"], abs=2e-5)


def test_control_c_saves_and_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = "import sys; from bertwright.cli.main import main; sys.exit(main())"
    words = [
        "pretrain",
        "--data",
        str(data),
        "--out",
        str(run),
        "--size",
        "tiny",
        "--steps",
        "100000",
        "--engine.compile",
        "false",
        "--engine.log-every",
        "1",
    ]
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_text():
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    try:
        _, output = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "--resume" in output
    assert "Traceback" not in output
    assert list((run / "checkpoints").glob("step-*/weights.safetensors"))


def test_a_loss_that_is_no_number_stops_with_a_saved_checkpoint(data: Path, tmp_path: Path) -> None:
    settings = laid_over(SMALL, optimizer={"learning_rate": 1e30, "clip_norm": 1e30})
    with pytest.raises(TrainingError, match=r"--learning-rate.*saved"):
        pretrain(data, tmp_path / "run", settings=settings)
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert (checkpoint / "position.json").is_file()


def test_minutes_that_setup_uses_up(data: Path, tmp_path: Path) -> None:
    """A run without time for a step says so instead of writing a model nobody trained."""
    settings = {**SMALL, "schedule": {"minutes": 1e-5, "phases": SMALL["schedule"]["phases"]}}
    with pytest.raises(TrainingError, match=r"step.*run.*--minutes"):
        pretrain(data, tmp_path / "run", settings=settings)
    assert not (tmp_path / "run" / "model").exists()


def test_old_checkpoints_are_deleted(data: Path, tmp_path: Path) -> None:
    pretrain(
        data, tmp_path / "run", settings=laid_over(SMALL, engine={**SMALL["engine"], "checkpoint_steps": 3, "keep": 2})
    )
    assert {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()} == {"step-9", "step-12"}


def test_settings_that_do_not_fit_write_nothing(data: Path, tmp_path: Path) -> None:
    """All other settings that do not fit are in tests/unit/train/setup/test_pretrain_config.py."""
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate"):
        pretrain(data, tmp_path / "run", settings={"optimizer": {"learning_rat": 1}})
    assert not (tmp_path / "run").exists()


def test_folders_that_do_not_fit(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="bertwright prepare"):
        pretrain(tmp_path, tmp_path / "run", settings=SMALL)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "something").touch()
    with pytest.raises(OutputExistsError, match="--resume"):
        pretrain(data, tmp_path / "taken", settings=SMALL)
    with pytest.raises(ModelError, match="resume"):
        pretrain(data, tmp_path / "nothing", settings=SMALL, resume=True)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(DiskSpaceError, match="space"):
        pretrain(data, tmp_path / "full", settings=SMALL)
    assert not (tmp_path / "full").exists()


def test_a_checkpoint_of_other_settings_is_refused(data: Path, done: Path) -> None:
    before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
    for change, named in (
        ({"optimizer": {"learning_rate": 5e-4}}, "optimizer"),
        ({"average": {"name": "ema"}}, "average"),
        ({"engine": {"precision": "bf16"}}, "precision"),
    ):
        with pytest.raises(ModelError, match=f"{named}"):
            pretrain(data, done, settings=change, resume=True)
    assert {path: path.read_bytes() for path in done.rglob("*") if path.is_file()} == before


def test_checkpoints_of_earlier_versions_do_not_name_the_start(data: Path, tmp_path: Path, done: Path) -> None:
    """Settings that came later and stand as they always were do not keep a run from going on."""
    positions = list((done / "checkpoints").glob("*/position.json"))
    assert positions
    for position in positions:
        assert "init" not in json.loads(position.read_text())["identity"]["model"]


def test_a_trained_model_gives_the_same_logits_in_transformers(data: Path, tmp_path: Path) -> None:
    """What was trained is what others load: our logits and transformers' within 1e-5 after a run, both heads."""
    transformers = pytest.importorskip("transformers")
    pretrain(data, tmp_path / "run", recipe="classic-muon", settings=SMALL)
    folder = tmp_path / "run" / "model"
    theirs = transformers.BertForPreTraining.from_pretrained(folder, attn_implementation="eager").eval()
    ours = load_model(folder).eval()
    ids = torch.randint(5, 512, (4, 48), generator=torch.Generator().manual_seed(0))
    types = torch.zeros_like(ids).index_fill(1, torch.arange(24, 48), 1)
    mask = torch.ones_like(ids)
    mask[1, 40:] = 0
    with torch.inference_mode():
        expected = theirs(input_ids=ids, token_type_ids=types, attention_mask=mask)
        hidden = ours.encode(ids, types, mask.bool())
        logits = ours.mlm_logits(ours.encode(ids, types, mask.bool()))
        sentence = ours.nsp_logits(hidden)
    real = mask.bool()
    torch.testing.assert_close(logits[real], expected.prediction_logits[real], atol=1e-5, rtol=0)
    torch.testing.assert_close(sentence, expected.seq_relationship_logits, atol=1e-5, rtol=0)


def test_a_trained_modern_model_gives_the_same_logits_in_transformers(data: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    settings = laid_over(SMALL, model={"global_every": 2})
    pretrain(data, tmp_path / "run", recipe="fast", settings=settings)
    folder = tmp_path / "run" / "model"
    theirs = transformers.ModernBertForMaskedLM.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.randint(5, 512, (4, 200), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 150:] = 0
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=mask).logits
        ours = load_model(folder)
        logits = ours.mlm_logits(ours.encode(ids, ids * 0, mask.bool()))
    torch.testing.assert_close(logits[mask.bool()], expected[mask.bool()], atol=1e-4, rtol=1e-4)


def test_evaluate_repeats_the_last_evaluation_of_the_run(data: Path, done: Path) -> None:
    """The saved model, evaluated from its folder on the same fixed rows and masks, has the figures the run ended
    with."""
    figures = json.loads((done / "result.json").read_text())
    again = evaluate("nsp", done / "model", data, length=32, num_rows=32)
    assert again.pop("rows")["length"] == 32
    assert again == pytest.approx(figures["valid"], abs=2e-5, rel=2e-5)
    single = evaluate("mlm", done / "model", data, length=32, num_rows=32)
    assert set(single) == {"mlm_loss", "mlm_perplexity", "mlm_accuracy", "mlm_nats_per_byte", "rows"}
    with pytest.raises(UsageError, match="mlm, nsp, sop, minimal-pairs"):
        evaluate("glue", done / "model", data)
    with pytest.raises(UsageError, match="512 positions"):
        evaluate("mlm", done / "model", data, length=1024)


def test_a_machine_without_a_working_compiler_goes_on_and_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(function: Any, **_: Any) -> Any:
        def fail(*_: Any) -> None:
            raise RuntimeError("no C++ compiler found")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    settings = laid_over(SMALL, engine={**SMALL["engine"], "compile": True})
    figures = pretrain(data, tmp_path / "run", settings=settings)
    assert figures["steps"] == 12
    assert "running uncompiled" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["pretrain", "--data", "x", "--out", "y", "--steps", "1", "--minutes", "1"], 2),
        (["pretrain", "--data", "x"], 2),
        (["pretrain", "--data", "x", "--out", "y", "--nonsense", "1"], 2),
        (["pretrain", "--data", "x", "--out", "y", "--optimizer.learning-rat", "1"], 2),
        (["pretrain", "--data", "x", "--out", "y", "--recipe", "clasic"], 2),
        (["pretrain", "--data", "not-there", "--out", "y"], 1),
    ],
)
def test_exit_codes(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    output = capsys.readouterr().err
    assert output.count("\n") <= 2
    assert output.startswith("bertwright: ")
