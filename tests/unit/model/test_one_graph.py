"""The step of every recipe is one graph to the compiler, on a CPU and on a GPU: counted on tensors without numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter
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
    "classic": ({}, "_flash_attention_forward"),
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
    real, (settings, attends) = (attention_kernel._varlen_attn, attention_kernel.flash_forward), OTHERS[name]
    on_gpu_paths()
    monkeypatch.setattr(attention_kernel, "_varlen_attn", real[0])
    monkeypatch.setattr(attention_kernel, "flash_forward", real[1])
    found, phases = graphs_of(resolve("classic", merge(settings, RUN)))
    assert len(found) == phases
    used = {str(node.target) for node in found[0].graph.nodes if node.op == "call_function"}
    assert any(attends in one for one in used)
    assert ("_varlen_attn" in attends) == any("_varlen_attn" in one for one in used)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("dynamic", [False, True])
def test_blocks_read_masks_that_were_made_before(
    dynamic: bool, on_gpu_paths: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all parts of a model are compiled, as for several processes, or blocks alone, for rows of any length."""
    on_gpu_paths()
    monkeypatch.setattr(attention_kernel, "_varlen_attn", stand_in)
    over = {"data": {"pack": True}, "model": {"layers": 4, "hidden_size": 64, "global_every": 2}}
    config = resolve("fast", {**over, "size": "tiny"})
    objective = objective_of(config, vocab_size=VOCAB, mask_id=4)
    torch._dynamo.reset()
    counter, counts = CompileCounter(), []
    model = build_encoder(config.shape(vocab_size=64, pad_token_id=0), drawn=False).train()
    parts: list[tuple[Any, str]] = [(block, "forward") for block in model.blocks]
    for owner, name in parts if dynamic else [(model, "block_inputs"), *parts]:
        compiled = torch.compile(getattr(owner, name), backend=counter, fullgraph=True, dynamic=dynamic)
        monkeypatch.setattr(owner, name, compiled)
    for length in (36, 28, 44) if dynamic else (36, 36):
        phase = Phase(length=length, rows=6, share=1.0)
        with torch.autocast("cpu", torch.bfloat16):
            model(batch_of(config, phase, objective, 0.0)).mlm.sum().backward()
        counts.append(counter.frame_count)
    assert counts[0] > 0
    assert counts == counts[:1] * len(counts)


def stand_in(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *others: Any, window_size: tuple[int, int]
) -> torch.Tensor:
    """Take the place of `varlen_attn` where there are numbers: the compiler reads it, and the answer matters not."""
    starts, _, longest, _ = others
    return query * longest + key + value + starts.sum()
