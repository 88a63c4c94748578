"""A step computed in parts is the step of the whole, and memory that runs out is told with the rows that would fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertwright.errors import ConfigError, OutOfMemoryError
from bertwright.nested import merge, read_toml
from bertwright.train.setup import step_parts
from bertwright.train.setup.step_parts import fewest_parts
from bertwright.train.step import Engine
from bertwright.verbs.pretrain import pretrain

ROWS = 8
SMALL: dict[str, Any] = {
    "size": "tiny",
    "schedule": {"steps": 6, "phases": [{"length": 24, "rows": ROWS, "share": 1.0}]},
    "engine": {"compile": False, "precision": "fp32", "log_every": 1, "evaluations": 1, "evaluation_rows": 8},
}


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("recipe", "parts", "accumulation"), [("classic", 3, 1), ("classic", 2, 2), ("fast", 8, 1)])
def test_parts_have_the_losses_and_weights_of_the_whole(
    data: Path, tmp_path: Path, recipe: str, parts: int, accumulation: int
) -> None:
    """With dropout and pairs, rows that do not divide by the parts, and each row by itself."""
    settings = merge(SMALL, {"engine": {"accumulation": accumulation}})
    runs = tmp_path / "whole", tmp_path / "parts"
    pretrain(data, runs[0], recipe=recipe, settings=settings)
    pretrain(data, runs[1], recipe=recipe, settings=merge(settings, {"engine": {"parts": parts}}))
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), abs=2e-5)
    whole, cut = (load_file(run / "model" / "model.safetensors") for run in runs)
    for name, tensor in whole.items():
        assert float((cut[name] - tensor).norm()) <= 1e-3 * float(tensor.norm()) + 1e-5, name


def limited(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step run out of memory where it computes more than so many rows at once, as torch says it of a GPU."""
    usual = Engine.backward

    def backward(self: Engine, model: Any, objective: Any, work: Any, **given: Any) -> Any:
        for part, batch in work:
            found = part.rows(len(batch.input_ids))
            if found.stop - found.start > rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return usual(self, model, objective, work, **given)

    monkeypatch.setattr(Engine, "backward", backward)


def tried_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find what fits by trial, on the CPU too."""

    def fitting(state: Any, loader: Any, objective: Any, engine: Engine, *, least: int = 1) -> int:
        usual = loader.parts
        found = fewest_parts(lambda parts: step_parts.try_parts(state, loader, objective, engine, parts), least, ROWS)
        step_parts.compute_in_parts(usual, state.model, loader, engine)
        return found

    monkeypatch.setattr(step_parts, "fitting_parts", fitting)


def test_auto_computes_steps_in_as_few_parts_as_fit_and_trains_alike(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(data, tmp_path / "whole", recipe="classic", settings=SMALL)
    limited(3, monkeypatch)
    tried_as_on_a_gpu(monkeypatch)
    pretrain(data, tmp_path / "auto", recipe="classic", batch_size="auto", settings=SMALL)
    assert read_toml(tmp_path / "auto" / "config.toml")["engine"]["parts"] == 4
    assert losses(tmp_path / "auto") == pytest.approx(losses(tmp_path / "whole"), abs=2e-5)


def test_memory_that_runs_out_is_told_with_what_would_fit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(3, monkeypatch)
    tried_as_on_a_gpu(monkeypatch)
    with pytest.raises(OutOfMemoryError, match=r"8 rows of 24 tokens.* 2 would.*--batch-size auto.*parts 4"):
        pretrain(data, tmp_path / "run", settings=SMALL)
    limited(0, monkeypatch)
    with pytest.raises(OutOfMemoryError, match="--seq-length"):
        pretrain(data, tmp_path / "none", settings=SMALL)


def test_on_a_cpu_the_machine_has_the_last_word(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_parts, "parts_by_room", lambda state, loader: 2)
    pretrain(data, tmp_path / "run", batch_size="auto", settings=SMALL)
    assert read_toml(tmp_path / "run" / "config.toml")["engine"]["parts"] == 2


def test_more_parts_than_rows_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"8 rows.*9 parts"):
        pretrain(data, tmp_path / "run", settings=merge(SMALL, {"engine": {"parts": 9}}))


def test_other_errors_stay_what_they_are() -> None:
    def attempt(parts: int) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        fewest_parts(attempt, 1, 8)


def test_parts_are_marked_for_the_compiler_where_the_mask_rate_moves(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unmarked, each number of slots would be compiled for itself, until the compiler gives up."""
    usual, marks = Engine.forward_loss_at, list[bool]()

    def watched(self: Engine, *given: Any) -> Any:
        loss = usual(self, *given)

        def seen(example: Any) -> Any:
            marks.extend(1 in getattr(slots, "_dynamo_dynamic_indices", ()) for slots in example.dynamic_slots)
            return loss(example)

        return seen

    monkeypatch.setattr(Engine, "forward_loss_at", watched)
    pretrain(data, tmp_path / "run", recipe="fast", settings=merge(SMALL, {"engine": {"parts": 2}}))
    assert marks
    assert all(marks)
