"""A plan measures, chooses, and is run by pretrain as it says; what is no plan is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bertwright.errors import InputError, UsageError
from bertwright.planning.options import SAME
from bertwright.verbs.calls import plan_options
from bertwright.verbs.plan import plan
from bertwright.verbs.pretrain import pretrain


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for a moment."""
    monkeypatch.setattr(plan_options, "SECONDS", 0.2)


def test_a_plan_says_what_a_run_takes_and_pretrain_runs_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.toml"
    found = plan(minutes=5, data=data, size="tiny", price=1.2, out=file)
    assert found["size"] == "tiny"
    assert found["cost"] == pytest.approx(0.1)
    assert found["steps"] * found["seconds"] == pytest.approx(0.9 * 300, rel=0.05)
    assert found["interval"][0] < found["loss"] < found["interval"][1]
    assert "vocabularies of 8,192" in str(found), "this corpus has another than the law's runs"
    planned = tomllib.loads(file.read_text())
    assert planned["plan"]["data"] == str(data)
    assert planned["schedule"]["minutes"] == 5
    run = pretrain(plan=file, out=tmp_path / "run", steps=2)
    assert run["steps"] == 2
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert config["size"] == "tiny"
    assert config["schedule"]["steps"] == 2
    assert f"{planned['plan']['loss']:.2f}" in capsys.readouterr().err


def test_sizes_are_compared_and_the_lowest_loss_is_chosen(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_options, "MEASURED", ("tiny", "mini"))
    found = plan(minutes=3, data=data)
    options = {option["size"]: option for option in found["options"]}
    assert set(options) <= set(plan_options.SIZES)
    assert options["tiny"]["tokens_per_second"] > options["mini"]["tokens_per_second"] > options["small"]["seconds"]
    assert found["loss"] == pytest.approx(min(option["loss"] for option in options.values()), rel=SAME)


def test_gpus_of_the_table_take_larger_batches_for_longer_runs_and_what_does_not_fit_is_left_out(data: Path) -> None:
    short, long = plan(minutes=1, data=data, gpu="h100"), plan(hours=24, data=data, gpu="h100", gpus=8)
    rows = {option["size"]: option["rows"] for option in short["options"]}
    assert all(option["rows"] >= rows.get(option["size"], 0) for option in long["options"])
    assert long["rows"] > 32
    assert all(option["memory"] <= 80e9 for option in long["options"])
    assert "data sheet" in str(long)
    assert not long["known"]
    assert "9 times in 10" not in str(long)
    assert "a guess" in str(long)


def test_a_shape_of_its_own_is_planned_for_and_warned_of(data: Path) -> None:
    shape = {"model": {"layers": 1, "hidden_size": 36, "heads": 3}}
    found = plan(minutes=1, data=data, settings=shape)
    assert len(found["options"]) == 1
    assert any("heads of 12 units" in warning for warning in found["warnings"])


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ({}, "--hours"),
        ({"hours": 1, "minutes": 5}, "--hours"),
        ({"minutes": 0}, "0 minutes"),
        ({"minutes": 1, "gpus": 2}, "--gpus 2"),
        ({"minutes": 1, "gpu": "voodoo2"}, "voodoo2"),
        ({"minutes": 1, "price": -1.0}, "--price -1"),
        ({"minutes": 1, "out": "plan.json"}, "plan.json"),
        ({"minutes": 1e-5, "size": "tiny"}, "too short"),
    ],
)  # fmt: skip
def test_a_call_that_plans_nothing_is_refused(data: Path, call: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        plan(data=data, **call)  # type: ignore[arg-type]


def test_a_file_that_is_no_plan_and_a_recipe_beside_one_are_refused(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text('extends = "classic"\n')
    with pytest.raises(InputError, match="no plan"):
        pretrain(data, tmp_path / "run", plan=file)
    file.write_text('extends = "classic"\n[schedule]\nminutes = 1\n[plan]\ndata = "x"\n')
    with pytest.raises(InputError, match="no plan"):
        pretrain(data, tmp_path / "run", plan=file)
    with pytest.raises(UsageError, match="--recipe"):
        pretrain(data, tmp_path / "run", plan=file, recipe="fast")
    with pytest.raises(UsageError, match="--data"):
        pretrain(out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
