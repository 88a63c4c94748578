"""Two runs beside one another, and the folder of a study: what differs, what came of it, what is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bertwright.cli.main import main
from bertwright.errors import ModelError, UsageError
from bertwright.verbs.show import show
from bertwright.verbs.verify import verify


def run_of(folder: Path, *, rate: float, losses: list[float], done: bool = True) -> Path:
    """Write a run whose held-out losses are these, a thousand tokens apart."""
    folder.mkdir()
    (folder / "config.toml").write_text(
        f'size = "tiny"\n[model]\n[objective]\n[optimizer]\nname = "adamw"\nlearning_rate = {rate}\n'
    )
    (folder / "manifest.json").write_text(json.dumps({"unigram_entropy": 6.0, "precision": "fp32", "ignored": rate}))
    lines = [
        {"step": 10 * n, "tokens": 1000 * n, "loss": loss, "mlm_loss": loss, "learning_rate": rate, "seconds": 1.0}
        | {"valid": {"mlm_loss": loss}}
        for n, loss in enumerate(losses, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if done:
        result = {"steps": lines[-1]["step"], "size": "tiny", "valid": {"mlm_loss": losses[-1]}, "skipped": 0}
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_settings_and_figures_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = run_of(tmp_path / "one", rate=1e-3, losses=[6.0, 5.0, 4.0])
    two = run_of(tmp_path / "two", rate=2e-3, losses=[6.5, 5.0, 3.5])
    found = show(one, two)
    assert found["settings"] == {"optimizer.learning_rate": [1e-3, 2e-3]}
    assert found["figures"]["valid/mlm_loss"] == [4.0, 3.5]
    assert set(found["loss_check"]) == {str(one), str(two)}
    along = next(block for block in found.blocks if "along" in getattr(block, "title", ""))
    assert along.rows[0] == ["1,000", "6.000", "6.500", "+0.500"]
    assert along.rows[-1] == ["3,000", "4.000", "3.500", "-0.500"]
    assert main(["show", str(one), str(two)]) == 0
    assert "-0.5" in capsys.readouterr().out


def test_runs_that_are_not_done_are_compared_by_their_last_lines(tmp_path: Path) -> None:
    one = run_of(tmp_path / "one", rate=1e-3, losses=[6.0, 5.0])
    two = run_of(tmp_path / "two", rate=1e-3, losses=[6.0], done=False)
    found = show(one, two)
    assert found["settings"] == {}
    assert found["figures"] == {"valid/mlm_loss": [5.0, 6.0]}


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    one = run_of(tmp_path / "one", rate=1e-3, losses=[6.0])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text("{}")
    task = run_of(tmp_path / "task", rate=1e-3, losses=[6.0])
    (task / "config.toml").write_text('task = "classify"\n')
    for other in (tmp_path / "data", task):
        with pytest.raises(UsageError, match=other.name):
            show(one, other)
    with pytest.raises(UsageError, match="--batch"):
        show(one, one, batch=1)
    (task / "config.toml").write_text((one / "config.toml").read_text())
    (task / "metrics.jsonl").write_text("no JSON\n" * 2)
    with pytest.raises(ModelError, match="verify"):
        show(one, task)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Make a study that is not done, with two trials."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = tmp_path / "study"
    folder.mkdir()
    plan: dict[str, Any] = {"identity": {"the task": "classify"}, "plan": {"runs": 2}}
    (folder / "study.json").write_text(json.dumps(plan))
    made = optuna.create_study(study_name="tune", storage=f"sqlite:///{folder / 'study.db'}", direction="maximize")
    made.optimize(lambda trial: trial.suggest_float("learning_rate", 0.1, 0.2), n_trials=2)
    return folder


def test_a_study_that_is_not_done(study: Path) -> None:
    found = show(study)
    assert (found["kind"], found["task"]) == ("study", "classify")
    assert [one["state"] for one in found["trials"]] == ["complete", "complete"]
    assert float(found["trials"][0]["dev"]) == pytest.approx(float(found["trials"][0]["drawn"].split()[-1]), abs=1e-4)
    assert [check.what for check in verify(study)] == ["study.json", "study.db"]


def test_a_damaged_study(study: Path) -> None:
    (study / "study.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ModelError, match=r"study\.db"):
        verify(study)
    with pytest.raises(ModelError, match=r"study\.db"):
        show(study)
    (study / "study.json").write_text('{"identity": 3}')
    with pytest.raises(ModelError, match=r"study\.json"):
        verify(study)
    with pytest.raises(ModelError, match="damaged"):
        show(study)
