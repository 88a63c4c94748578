"""The step of every recipe is one graph to the compiler, on a CPU and on a GPU: counted on tensors without numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode

from bertwright.batch_layout import RowLayout
from bertwright.configs.names import RECIPES
from bertwright.model.build import build_encoder
from bertwright.model.layers import attention_kernel
from bertwright.nested import merge
from bertwright.train.schedule import Phase
from bertwright.train.setup.pretrain_config import PretrainConfig, resolve
from bertwright.train.setup.pretrain_loader import objective_of
from bertwright.train.step import forward_loss_of
from bertwright.types import MaskedBatch

VOCAB = 30522
RUN: dict[str, Any] = {"size": "small", "model": {"layers": 2}}
"""Every other block is like one of the first two."""
TOKENS: dict[str, Any] = {"objective": {"next_sentence": False}}
PLAIN: dict[str, Any] = {"dropout": 0.0, "attention_dropout": 0.0}
MODERN: dict[str, Any] = {"model": {"architecture": "modern", **PLAIN}, **TOKENS}
PHASES: list[dict[str, Any]] = [{"length": 128, "rows": 16, "share": 0.5}, {"length": 64, "rows": 32, "share": 0.5}]
CAUSAL: dict[str, Any] = {"steps": 9, "phases": [{**PHASES[0], "causal": True}, PHASES[1]]}


def batch_of(config: PretrainConfig, phase: Phase, objective: Any, start: float) -> MaskedBatch:
    """Return a masked batch of a phase, without numbers."""
    rows, slots = phase.rows // config.engine.accumulation, objective.masked_slots(phase.length, start)
    ids, positions = torch.zeros((rows, phase.length), dtype=torch.long), torch.zeros((rows, slots), dtype=torch.long)
    pairs = objective.rows != "single"
    example = MaskedBatch(
        ids, ids, ids == 0, positions, positions, positions.float(),
        next_label=ids[:, 0] if pairs else None,
        documents=ids if config.data.pack else None,
        causal=phase.causal,
        layout=RowLayout(sequences=4 * rows if config.data.pack else 0),
    )  # fmt: skip
    if objective.has_dynamic_slots:
        for tensor in example.dynamic_slots:
            torch._dynamo.mark_dynamic(tensor, 1)
    return example


def graphs_of(config: PretrainConfig) -> tuple[list[torch.fx.GraphModule], int]:
    """Return the graphs that steps of all phases of a run are compiled to, and the number of phases."""
    objective = objective_of(config, vocab_size=VOCAB, mask_id=4)
    found: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward

    torch._dynamo.reset()
    with FakeTensorMode():
        model = build_encoder(config.shape(vocab_size=VOCAB, pad_token_id=0), drawn=False).train()
        step = forward_loss_of(model, objective, lambda: torch.autocast("cpu", torch.bfloat16))
        compiled = torch.compile(step, backend=backend, fullgraph=True, dynamic=False)
        for number, phase in enumerate(config.schedule.phases):
            loss = compiled(batch_of(config, phase, objective, config.schedule.start_of(number)))
            assert loss.total.shape == ()
            loss.total.backward()
        trained = [one for one in model.parameters() if one.requires_grad]
        assert len([one for one in trained if one.grad is not None]) > len(trained) / 2
        assert all(one.grad is None or one.grad.shape == one.shape for one in trained)
    return found, len(config.schedule.phases)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_is_one_graph(recipe: str) -> None:
    """Of every phase; fullgraph raises where the compiler would break it."""
    found, phases = graphs_of(resolve(recipe, RUN))
    assert len(found) == phases


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "classic": ({}, "scaled_dot_product_attention"),
    "without dropout": ({"model": PLAIN}, "_varlen_attn"),
    "packed": ({"data": {"pack": True}, **MODERN}, "_varlen_attn"),
    "local": ({**MODERN, "model": {**MODERN["model"], "global_every": 2}}, "_varlen_attn"),
    "causal": ({**MODERN, "schedule": CAUSAL}, "scaled_dot_product_attention"),
    "deberta": ({"model": {"architecture": "deberta"}, **TOKENS}, "scaled_dot_product_attention"),
}
"""Settings of a run, and what attends on a GPU in its first phase."""


@pytest.mark.parametrize("name", OTHERS)
def test_a_step_on_a_gpu_is_one_graph(name: str, on_gpu_paths: Callable[[], None], monkeypatch: Any) -> None:
    """With the real operator of torch, of which a machine without a GPU knows the shapes alone."""
    real, (settings, attends) = attention_kernel._varlen_attn, OTHERS[name]
    on_gpu_paths()
    monkeypatch.setattr(attention_kernel, "_varlen_attn", real)
    found, phases = graphs_of(resolve("classic", merge(settings, RUN)))
    assert len(found) == phases
    used = {str(node.target) for node in found[0].graph.nodes if node.op == "call_function"}
    assert any(attends in one for one in used)
    assert ("_varlen_attn" in attends) == any("_varlen_attn" in one for one in used)
