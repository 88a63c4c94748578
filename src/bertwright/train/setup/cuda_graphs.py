"""Decides whether the compiled step of a run is replayed as a CUDA graph: of small models, which wait for each kernel.

A graph starts all kernels of a pass at once. It holds shapes and places in memory for good: what changes them along a
run, or keeps what a graph has filled beyond its next call, rules it out.
"""

from __future__ import annotations

from dataclasses import dataclass

SMALL = 5e10
"""Operations of a micro-batch for each block, up to which a GPU waits for kernels to be started for about as long as it
computes: some 40 kernels of 5 microseconds, at 2e14 operations a second. An estimate, not a measurement."""


@dataclass(frozen=True)
class GraphedStep:
    """What decides it.

    device          "cpu" or "cuda"
    flops_by_block  operations of the largest micro-batch, or part of it, divided by the blocks of the model
    accumulation    micro-batches, or parts of them, that a step is made of
    processes       processes of the run
    dynamic         whether the number of masked slots changes along the run
    auxiliary       whether the objective has an auxiliary module, or asks the model, beside the step
    """

    device: str
    flops_by_block: float
    accumulation: int = 1
    processes: int = 1
    dynamic: bool = False
    auxiliary: bool = False


def why_no_graph(step: GraphedStep) -> str | None:
    """Return why a step is not replayed as a CUDA graph; None where it is.

    >>> why_no_graph(GraphedStep("cuda", 2e10, accumulation=4))
    'gradients are added up over micro-batches'
    """
    reasons = {
        "there is no GPU": step.device != "cuda",
        "the model is large enough": step.flops_by_block > SMALL,
        "the number of masked tokens changes": step.dynamic,
        "gradients are added up over micro-batches": step.accumulation > 1,
        "several processes exchange gradients meanwhile": step.processes > 1,
        "another module runs beside the step": step.auxiliary,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
