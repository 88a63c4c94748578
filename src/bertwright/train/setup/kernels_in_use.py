"""Turns a run on a GPU into words about what computes it: which kernel attends, in what products and graphs."""

from __future__ import annotations

from dataclasses import replace

import torch

from bertwright.model.encoder import Encoder
from bertwright.model.layers.attention_kernel import kernel_for, kernel_name
from bertwright.objectives.base import Objective
from bertwright.train.setup.assemble import graphed_step
from bertwright.train.setup.cuda_graphs import why_no_graph
from bertwright.train.setup.pretrain_loader import PretrainLoader
from bertwright.train.step import Engine


def attention_in_use(model: Encoder, loader: PretrainLoader, engine: Engine, *, compiled: bool) -> str:
    """Return the names of the kernels that attend in the phases of a run, in their order, each once."""
    found: dict[str, None] = {}
    for number, phase in enumerate(loader.schedule.phases):
        batch = loader.draw(number, 0)
        documents = None if batch.documents is None else batch.documents.to(engine.device)
        for window in model.windows:
            with engine.cast():
                call = model.attention_call(
                    batch.attention_mask.to(engine.device), documents,
                    window=window, causal=phase.causal, layout=batch.layout,
                )  # fmt: skip
            call = replace(call, compiled=compiled)
            found[kernel_name(kernel_for(call), call)] = None
    return ", ".join(found)


def gpu_facts(model: Encoder, loader: PretrainLoader, objective: Objective, engine: Engine, *, compiled: bool) -> str:
    """Return in a line what computes a run on a GPU."""
    no_graph = why_no_graph(graphed_step(loader, objective, engine)) if compiled else "steps are not compiled"
    facts = {
        "attention": attention_in_use(model, loader, engine, compiled=compiled),
        "products left in float32": "TF32" if torch.backends.cuda.matmul.allow_tf32 else "exact",
        "scores of words": "not kept" if model.leaves_scores and not compiled else "kept",
        "CUDA graphs": "yes" if no_graph is None else f"no, {no_graph}",
    }
    return "; ".join(f"{name}: {fact}" for name, fact in facts.items())
