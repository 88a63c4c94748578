"""Turns a run into words about what computes it: which kernel attends in each phase."""

from __future__ import annotations

from dataclasses import replace

from bertwright.model.encoder import Encoder
from bertwright.model.layers.attention_kernel import has_varlen, kernel_for, kernel_name
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
            found[kernel_name(kernel_for(call, varlen=has_varlen()), call)] = None
    return ", ".join(found)
