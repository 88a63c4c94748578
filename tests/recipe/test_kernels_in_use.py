"""What a run on a GPU says of itself, and that its compiled step is not made anew for a batch of full rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bertwright.batch_layout import RowLayout
from bertwright.data.pretraining.dataset import open_dataset
from bertwright.train.auxiliary import encoder_of
from bertwright.train.setup.assemble import build, steady
from bertwright.train.setup.kernels_in_use import gpu_facts
from bertwright.train.setup.pretrain_config import resolve

PHASES = [{"length": 64, "rows": 8, "share": 0.5}, {"length": 32, "rows": 16, "share": 0.5}]


def run_of(data: Path, recipe: str, **settings: Any) -> tuple[Any, ...]:
    """Return model, loader, objective and engine of a run, which takes its device for a GPU."""
    given = {"size": "tiny", "schedule": {"steps": 9, "phases": PHASES}, **settings}
    state, loader, objective, engine = build(open_dataset([data]), resolve(recipe, given), fresh=False)
    return encoder_of(state.model), loader, objective, engine


@pytest.mark.parametrize(
    ("recipe", "settings", "words"),
    [
        ("fast", {"engine": {"accumulation": 2}}, "no, the number of masked tokens changes"),
        ("classic", {"engine": {"accumulation": 2}}, "no, gradients are added up"),
        ("classic", {}, "CUDA graphs: yes"),
    ],
)
def test_a_run_says_what_computes_it(data: Path, recipe: str, settings: dict[str, Any], words: str) -> None:
    model, loader, objective, engine = run_of(data, recipe, **settings)
    compiled = gpu_facts(model, loader, objective, replace(engine, device=torch.device("cpu")), compiled=True)
    assert compiled.startswith("attention: ")
    assert "no, there is no GPU" in compiled
    engine.device = torch.device("cuda")
    assert words in gpu_facts_of(model, loader, objective, engine)


def gpu_facts_of(model: Any, loader: Any, objective: Any, engine: Any) -> str:
    """Return the facts of a run on a GPU that this machine has not: tensors stay where they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "to", lambda tensor, *arguments, **named: tensor)
        patch.setattr(type(engine), "cast", lambda engine: torch.autocast("cpu", torch.bfloat16))
        return gpu_facts(model, loader, objective, engine, compiled=True)


def test_rows_that_happen_to_be_full_are_taken_for_others(data: Path) -> None:
    """Only where those of the first batches all are may the code for them be used; on a CPU there is one for all."""
    _, loader, objective, engine = run_of(data, "classic")
    engine.device = torch.device("cuda")
    seen: list[RowLayout] = []
    example = objective.corrupt(loader.draw(0, 0), torch.Generator().manual_seed(0))
    full = replace(example, layout=RowLayout(full=True, sequences=9))
    steady(lambda batch: seen.append(batch.layout), loader, engine)(full)  # type: ignore[arg-type,func-returns-value]
    usual = loader.draw
    loader.draw = lambda phase, t: replace(usual(phase, t), layout=RowLayout(full=True))
    steady(lambda batch: seen.append(batch.layout), loader, engine)(full)  # type: ignore[arg-type,func-returns-value]
    engine.device = torch.device("cpu")
    steady(lambda batch: seen.append(batch.layout), loader, engine)(full)  # type: ignore[arg-type,func-returns-value]
    assert seen == [RowLayout(full=False, sequences=9), RowLayout(full=True, sequences=9), RowLayout()]
