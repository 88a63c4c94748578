"""Runs that go on from a model, and finished runs that are made longer: exact, evaluated before and after, refused."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bertwright.cli.main import main
from bertwright.errors import DataError, ModelError, UsageError
from bertwright.hub.encoder_folder import load_model, save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.nested import read_toml
from bertwright.reports.pretrain_result import TIMED_IN_LINES
from bertwright.train.callbacks.base import StepReport
from bertwright.train.callbacks.save import CheckpointCallback
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain
from bertwright.verbs.show import show
from bertwright.verbs.verify import verify

SMALL: dict[str, Any] = {
    "schedule": {"steps": 8, "warmup": 0.25, "decay_share": 0.25, "phases": [{"length": 32, "rows": 8, "share": 1.0}]},
    "engine": {"compile": False, "precision": "fp32", "log_every": 1, "evaluations": 1, "evaluation_rows": 32},
}


def laid_over(settings: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {**settings, **{name: {**settings.get(name, {}), **value} for name, value in sections.items()}}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def metrics(run: Path, *, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in (*TIMED_IN_LINES, *without)} for line in lines]


def assert_equal_runs(run: Path, other: Path, *, without: tuple[str, ...] = ()) -> None:
    """Assert that two runs have the same weights, bit for bit, and the same metrics but for some of their names."""
    for name, tensor in weights(run).items():
        assert torch.equal(tensor, weights(other)[name]), name
    assert metrics(run, without=without) == metrics(other, without=without)


def stop_after(step: int) -> Callable[[CheckpointCallback, StepReport], None]:
    """Return what stands in for the callback that saves: it ends a run after a step, nothing of that step saved."""
    usual = CheckpointCallback.on_step

    def on_step(self: CheckpointCallback, report: StepReport) -> None:
        if report.progress.step == step:
            self.saver.wait()
            raise KeyboardInterrupt
        usual(self, report)

    return on_step


@pytest.fixture(scope="module")
def start(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of size tiny, as drawn, with the tokenizer of the data."""
    folder = tmp_path_factory.mktemp("start") / "model"
    torch.manual_seed(7)
    save_model(build_encoder(named_size("tiny", vocab_size=512)), data / "tokenizer", folder)
    return folder


@pytest.fixture(scope="module")
def adapted(data: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `adapt` from that model, which tests read and leave as it is."""
    run = tmp_path_factory.mktemp("adapted") / "run"
    pretrain(data, run, init_from=start, settings=laid_over(SMALL, engine={"checkpoint_steps": 3}))
    return run


def test_a_run_begins_with_the_model_and_says_what_it_was(data: Path, start: Path, adapted: Path) -> None:
    first, last = metrics(adapted)[0], metrics(adapted)[-1]
    figures = json.loads((adapted / "result.json").read_text())
    before = evaluate("mlm", start, data, length=32, num_rows=32)
    assert first["step"] == 0
    assert first["valid"]["mlm_loss"] == pytest.approx(before["mlm_loss"], abs=1e-4)
    assert last["valid"]["mlm_loss"] < first["valid"]["mlm_loss"]
    (text,) = figures["before_after"]["texts"].values()
    assert text["role"] == "domain"
    assert text["before"]["nats_per_token"] == first["valid"]["mlm_loss"]
    assert text["after"]["nats_per_token"] == last["valid"]["mlm_loss"]
    assert 0 < text["after"]["nats_per_byte"] < text["after"]["nats_per_token"]
    assert [sample["before"] for sample in figures["before_after"]["samples"]] == [
        sample["predictions"] for sample in first["samples"]
    ]
    digest = hashlib.sha256((start / "model.safetensors").read_bytes()).hexdigest()
    for name in ("manifest.json", "config.toml", "model/README.md", "checkpoints/before-decay/position.json"):
        written = (adapted / name).read_text(encoding="utf-8")
        assert digest in written, name
        assert str(start) not in written, name
    assert show(adapted)["result"]["start"]["sha256"] == digest
    assert digest in json.dumps(show(adapted / "checkpoints" / "before-decay")["identity"])
    assert {"before-decay", "start"} <= {check.what.removeprefix("checkpoint ") for check in verify(adapted)}


def test_at_a_rate_of_nothing_the_model_stays_what_it_was(data: Path, start: Path, tmp_path: Path) -> None:
    settings = laid_over(SMALL, schedule={**SMALL["schedule"], "steps": 1}, model={"dropout": 0.3})
    pretrain(data, tmp_path / "run", init_from=start, learning_rate=1e-30, settings=settings)
    for name, tensor in load_file(start / "model.safetensors").items():
        assert torch.equal(tensor, weights(tmp_path / "run")[name]), name
    assert (
        load_model(tmp_path / "run" / "model").config == load_model(start).config
    )  # dropout too: that was for training


def test_a_model_with_rows_of_no_token_is_evaluated_on_the_masks_of_its_run(data: Path, tmp_path: Path) -> None:
    """Random tokens, which some masked ones are replaced by, are those of the vocabulary."""
    torch.manual_seed(7)
    save_model(build_encoder(named_size("tiny", vocab_size=640)), data / "tokenizer", tmp_path / "padded")
    settings = laid_over(SMALL, schedule={**SMALL["schedule"], "steps": 1})
    figures = pretrain(data, tmp_path / "run", init_from=tmp_path / "padded", settings=settings)
    assert evaluate("mlm", tmp_path / "run" / "model", data)["mlm_loss"] == pytest.approx(
        figures["valid"]["mlm_loss"], abs=2e-6
    )


def test_a_resumed_run_equals_one_never_stopped_and_needs_the_model_no_more(
    adapted: Path, data: Path, tmp_path: Path
) -> None:
    later = shutil.ignore_patterns("step-8", "before-decay", "model", "result.json", "report.html", ".lock")
    shutil.copytree(adapted, tmp_path / "run", ignore=later)
    assert [folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-6"]
    pretrain(data, tmp_path / "run", resume=True)
    assert_equal_runs(adapted, tmp_path / "run")


def test_a_run_made_longer_equals_one_that_was_asked_for_the_longer_time(
    adapted: Path, data: Path, start: Path, tmp_path: Path
) -> None:
    """It is stopped twice, before its first checkpoint and after it, and gone on with by --resume alone."""
    schedule = {**SMALL["schedule"], "steps": 16, "warmup": 0.125}
    pretrain(data, tmp_path / "long", init_from=start, settings=laid_over(SMALL, schedule=schedule))
    run = tmp_path / "run"
    shutil.copytree(adapted, run)
    for step, words in ((8, {"steps": "+8"}), (11, {})):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CheckpointCallback, "on_step", stop_after(step))
            with pytest.raises(KeyboardInterrupt):
                pretrain(data, run, resume=True, **words)
        assert read_toml(run / "config.toml")["schedule"]["steps"] == 16
        assert read_toml(run / "config.toml")["schedule"]["warmup"] == 0.125
    with pytest.raises(UsageError, match="--resume"):
        pretrain(data, run, resume=True, steps="+8")
    pretrain(data, run, resume=True)
    assert_equal_runs(tmp_path / "long", run, without=("fraction",))  # lines before the decay have the shorter run's
    assert json.loads((run / "checkpoints" / "before-decay" / "position.json").read_text())["position"]["step"] == 12


def test_a_longer_run_has_the_phases_of_one_asked_for_at_once_and_forgets_the_mean_of_the_shorter(
    data: Path, tmp_path: Path
) -> None:
    """Weights and figures are the long run's, bit for bit; the mean differs by what is left of that of before."""

    def settings(steps: int, *, warmup: float, shares: list[float], mask_shares: list[float]) -> dict[str, Any]:
        rows = ({"length": 16, "rows": 4, "causal": True}, {"length": 32, "rows": 4}, {"length": 16, "rows": 8})
        phases = [{**one, "share": share} for one, share in zip(rows, shares, strict=True)]
        rates = [{"rate": rate, "share": share} for rate, share in zip((0.4, 0.3), mask_shares, strict=True)]
        return laid_over(
            SMALL, schedule={**SMALL["schedule"], "steps": steps, "warmup": warmup, "phases": phases},
            objective={"mask_phases": rates}, average={"name": "ema", "share": 0.2},
            engine={**SMALL["engine"], "checkpoint_steps": 6, "keep": 9},
        )  # fmt: skip

    def saved(folder: str, tensors: str) -> dict[str, torch.Tensor]:
        return load_file(tmp_path / folder.replace("/", "/checkpoints/") / f"{tensors}.safetensors")

    short = settings(8, warmup=0.25, shares=[0.25, 0.625, 0.125], mask_shares=[0.5, 0.5])
    pretrain(data, tmp_path / "run", size="tiny", recipe="adapt", settings=short)
    mean = saved("run/before-decay", "average")
    pretrain(data, tmp_path / "run", resume=True, steps="+8")
    long = settings(16, warmup=0.125, shares=[0.125, 0.75, 0.125], mask_shares=[0.25, 0.75])
    pretrain(data, tmp_path / "long", size="tiny", recipe="adapt", settings=long)
    for name in ("schedule", "objective"):
        assert read_toml(tmp_path / "run" / "config.toml")[name] == read_toml(tmp_path / "long" / "config.toml")[name]
    ours, theirs = (
        [
            {name: {key: one for key, one in value.items() if "average" not in key} if name == "valid" else value
             for name, value in line.items()}
            for line in metrics(tmp_path / run, without=("samples", "fraction"))
        ]
        for run in ("run", "long")
    )  # fmt: skip
    assert ours == theirs
    end, of_long = saved("run/step-16", "weights"), saved("long/step-16", "weights")
    assert all(torch.equal(end[name], of_long[name]) for name in of_long)
    apart = {name: mean[name] - before for name, before in saved("long/step-6", "average").items()}
    assert max(float(one.abs().max()) for one in apart.values()) > 1e-4
    end, of_long = saved("run/step-16", "average"), saved("long/step-16", "average")
    for name, one in apart.items():
        torch.testing.assert_close(end[name] - of_long[name], one * math.exp(-(1 - 6 / 16) / 0.2), rtol=0.02, atol=2e-7)


def test_a_run_that_cannot_be_made_longer_is_refused(
    adapted: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["pretrain", "--data", str(data), "--out", str(adapted)]
    assert main([*call, "--resume", "--minutes", "+60"]) == 2
    assert "--steps +N" in capsys.readouterr().err
    assert main(["pretrain", "--data", str(data), "--out", str(tmp_path / "new"), "--steps", "+60"]) == 2
    assert "--resume" in capsys.readouterr().err
    shutil.copytree(adapted, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "before-decay")
    with pytest.raises(ModelError, match="before-decay"):
        pretrain(data, tmp_path / "run", resume=True, steps="+8")
    text = (tmp_path / "run" / "config.toml").read_text().replace("decay_share", "# decay_share")
    (tmp_path / "run" / "config.toml").write_text(text)
    with pytest.raises(UsageError, match="--recipe adapt"):
        pretrain(data, tmp_path / "run", resume=True, steps="+8")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--size", "mini"], "--size"),
        (["--layers", "3"], "--layers"),
        (["--model.architecture", "modern"], "model.architecture"),
        (["--model.init", "cooccurrence"], "model.init"),
        (["--seq-length", "600"], "512"),
    ],
)
def test_flags_that_ask_for_another_model_are_refused(
    data: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    call = ["pretrain", "--data", str(data), "--out", str(tmp_path / "run"), "--init-from", str(start), "--steps", "4"]
    assert main([*call, *words]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*call, "--size", "tiny", "--layers", "2", "--dry-run"]) == 0  # those that say what it is are fine


def test_data_of_another_tokenizer_is_refused(data: Path, start: Path, tmp_path: Path) -> None:
    texts = [f"Some other words stand on page {page}. They are few, and then {page} more." for page in range(60)]
    (tmp_path / "other.txt").write_text("\n\n".join(texts), encoding="utf-8")
    prepare([str(tmp_path / "other.txt")], tmp_path / "other", vocab_size=600, valid_fraction=0.5)
    for given in ({"data": tmp_path / "other"}, {"data": data, "general": tmp_path / "other"}):
        with pytest.raises(DataError, match="--tokenizer"):
            pretrain(**given, out=tmp_path / "run", init_from=start, settings=SMALL)
    prepare([str(tmp_path / "other.txt")], tmp_path / "fit", tokenizer=start, valid_fraction=0.5)
    figures = pretrain(data, tmp_path / "run", general=tmp_path / "fit", init_from=start, settings=SMALL)
    roles = {name: text["role"] for name, text in figures["before_after"]["texts"].items()}
    assert roles == {"data": "domain", "fit": "general"}


def test_a_model_without_heads_gets_them(
    data: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(start, tmp_path / "bare", ignore=shutil.ignore_patterns("checksums.json"))
    tensors = load_file(start / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "pooler" not in name and not name.startswith("cls.")}
    save_file(kept, tmp_path / "bare" / "model.safetensors", metadata={"format": "pt"})
    settings = laid_over(SMALL, schedule={**SMALL["schedule"], "steps": 2}, objective={"next_sentence": True})
    figures = pretrain(data, tmp_path / "run", init_from=tmp_path / "bare", settings=settings)
    told = capsys.readouterr().err
    assert [name for name in ("masked-token head", "next-sentence head", "pooler") if name not in told] == []
    first = metrics(tmp_path / "run")[0]["valid"]
    assert first["mlm_loss"] < figures["unigram_entropy"] + 0.5 < float(np.log(512))
    assert "nsp_loss" in first


def test_replay_is_a_fraction_of_the_rows_and_general_text_is_evaluated_by_itself(
    data: Path, start: Path, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path / "old")
    figures = pretrain([data, tmp_path / "old"], tmp_path / "run", init_from=start, settings=SMALL)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [one["share"] for one in manifest["mixture"].values()] == [0.95, 0.05]
    assert {name: text["role"] for name, text in figures["before_after"]["texts"].items()} == {
        "data": "domain", "old": "general"
    }  # fmt: skip


def test_probes_are_measured_at_each_evaluation(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    animals = ["cat", "dog", "horse", "owl"]
    pairs = [{"good": f"The {one} sees the {other}.", "bad": f"The sees {one} the {other}."}
             for one in animals for other in animals]  # fmt: skip
    (tmp_path / "order.jsonl").write_text("\n".join(map(json.dumps, pairs)) + "\n", encoding="utf-8")
    texts = [f"The {one} number {n} runs to the house.\t{one}" for one in animals[:2] for n in range(20)]
    (tmp_path / "animals.tsv").write_text("\n".join(["text\tlabel", *texts]) + "\n", encoding="utf-8")
    words = ["--size", "tiny", "--steps", "8", "--schedule.phases", "[{length=32, rows=8, share=1.0}]", "--json"]
    words += ["--probe", str(tmp_path / "order.jsonl"), "--probe", str(tmp_path / "animals.tsv")]
    words += ["--engine.evaluations", "2", "--engine.evaluation-rows", "32"]
    assert main(["pretrain", "--data", str(data), "--out", str(tmp_path / "run"), *words]) == 0
    figures = json.loads(capsys.readouterr().out)
    measured = [line["probes"] for line in metrics(tmp_path / "run") if "valid" in line]
    assert [set(one) for one in measured] == [{"order", "animals"}] * 2
    for name, chance in (("order", 0.5), ("animals", 0.5)):
        assert figures["probes"][name]["accuracy"] == measured[-1][name]
        assert figures["probes"][name]["chance"] == pytest.approx(chance, abs=0.1)
    assert measured[-1]["animals"] > 0.9


def test_a_causal_detour_ends_in_masked_tokens_and_can_be_made_longer(data: Path, start: Path, tmp_path: Path) -> None:
    """Next tokens while the rate is held, masked tokens while it falls, as the header of the recipe says."""
    rows = {"length": 32, "rows": 8}
    phases = [{**rows, "share": 0.75, "causal": True}, {**rows, "share": 0.25}]
    settings = laid_over(SMALL, schedule={**SMALL["schedule"], "phases": phases})
    pretrain(data, tmp_path / "run", init_from=start, settings=settings)
    lines = metrics(tmp_path / "run")
    assert ["causal_loss" in line for line in lines] == [False, *[True] * 6, False, False]
    assert "mlm_loss" in lines[-1]
    pretrain(data, tmp_path / "run", resume=True, steps="+8")
    assert ["causal_loss" in line for line in metrics(tmp_path / "run")] == [False, *[True] * 12, *[False] * 4]
