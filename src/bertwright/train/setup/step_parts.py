"""Finds in how few parts a step of a run fits into memory, and says what would fit where one did not.

On a GPU that is tried, with as much of its memory taken as the run will keep; on a CPU, where a system that has too
little ends processes without a word, it is computed. A step in parts has the batch, masks and loss of the whole one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import clear_frames

import torch
from torch import nn

from bertwright.device import processor_name
from bertwright.errors import ConfigError, OutOfMemoryError, is_out_of_memory
from bertwright.files import human_bytes
from bertwright.log import note
from bertwright.model.encoder import kept_bytes
from bertwright.model.layers.dropout import begin_at_row, follow_rows
from bertwright.objectives.base import Objective
from bertwright.train.micro_batches import STATE, machine_memory
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.setup.pretrain_loader import PretrainLoader
from bertwright.train.state import TrainState
from bertwright.train.step import Engine

KEPT, MORE = 12, 4
"""Bytes a weight that a run keeps on a GPU beside a step: itself and two moments; and as many as MORE for a mean of the
weights, and for the buckets that several processes send gradients in. What it goes back to and writes checkpoints from
lies in the memory of the host."""
TOO_LARGE = "not even the smallest part of a step fits into memory; give a smaller --seq-length or a smaller model"
SPARE = 0.05
"""Fraction of the memory that is left free: tensors do not lie without gaps."""


def compute_in_parts(parts: int, model: nn.Module, loader: PretrainLoader, engine: Engine) -> None:
    """Have every micro-batch of a run computed in so many parts."""
    before, loader.parts = loader.parts, parts
    if parts > 1:
        engine.begin_at_row = begin_at_row
        follow_rows(model)
    elif before > 1:  # after a trial
        begin_at_row(model, 0)
        engine.begin_at_row = begin_at_row if engine.group.size > 1 else None


def settle_parts(
    config: PretrainConfig, state: TrainState, loader: PretrainLoader, objective: Objective, engine: Engine
) -> PretrainConfig:
    """Where settings leave it open, have steps computed in as few parts as fit; return settings that say so.

    Raises OutOfMemoryError where none fit.
    """
    parts = config.engine.parts
    if parts != "auto":
        return config
    if engine.sharded:
        raise ConfigError("--batch-size auto tries steps of one process; with fsdp give --accumulation")
    parts = fitting_parts(state, loader, objective, engine)
    cut = f"in {parts} parts" if parts > 1 else "whole"
    note(f"steps are computed {cut}: {rows_at_a_time(loader, parts)} rows at a time fit into memory")
    compute_in_parts(parts, state.model, loader, engine)
    return config.model_copy(update={"engine": config.engine.model_copy(update={"parts": parts})})


def rows_at_a_time(loader: PretrainLoader, parts: int) -> int:
    """Return the rows of the largest part of a step, of the phase with the most."""
    rows = max(phase.rows for phase in loader.schedule.phases) // loader.accumulation
    return -(-rows // (parts * max(1, loader.group.size // loader.accumulation)))


def fitting_parts(
    state: TrainState, loader: PretrainLoader, objective: Objective, engine: Engine, *, least: int = 1
) -> int:
    """Return in how few parts, from `least` on, a step of every phase fits; raises OutOfMemoryError where none does."""
    most = min(phase.rows for phase in loader.schedule.phases) // loader.accumulation
    most //= engine.group.size if loader.accumulation % engine.group.size else 1
    if least > most:
        raise OutOfMemoryError(TOO_LARGE)
    if engine.device.type != "cuda":
        return min(most, max(least, parts_by_room(state, loader)))
    usual = loader.parts

    def attempt(parts: int) -> None:
        taken = reserve(state, engine)
        try_parts(state, loader, objective, engine, parts)
        del taken

    try:
        return fewest_parts(attempt, least, most, any_of=engine.group.any)
    finally:
        compute_in_parts(usual, state.model, loader, engine)
        torch.cuda.reset_peak_memory_stats(engine.device)  # trials are no part of what the run takes


def fewest_parts(
    attempt: Callable[[int], None], least: int, most: int, *, any_of: Callable[[bool], bool] = bool
) -> int:
    """Return the fewest parts, of `least` and twice that and so on to `most`, in which `attempt` has memory enough.

    `any_of` says whether it failed in any process. Raises OutOfMemoryError where the most are too few.

    >>> def attempt(parts):
    ...     if parts < 3:
    ...         raise MemoryError
    >>> fewest_parts(attempt, 1, 32)
    4
    """
    parts = least
    while any_of(_fails(attempt, parts)):
        if parts >= most:
            raise OutOfMemoryError(TOO_LARGE)
        parts = min(2 * parts, most)
    return parts


def _fails(attempt: Callable[[int], None], parts: int) -> bool:
    try:
        attempt(parts)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        failed = True
    else:
        failed = False
    gc.collect()  # what the attempt has left, which the error held
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return failed


def reserve(state: TrainState, engine: Engine) -> torch.Tensor:
    """Return a tensor as large as what the run will keep on the GPU beside what it keeps already."""
    weights = sum(parameter.numel() for parameter in state.model.parameters())
    total = torch.cuda.get_device_properties(engine.device).total_memory
    kept = KEPT + MORE * (state.average is not None) + MORE * (engine.group.size > 1)
    more = max(0, kept * weights - torch.cuda.memory_allocated(engine.device))
    return torch.empty(more + round(SPARE * total), dtype=torch.uint8, device=engine.device)


def try_parts(state: TrainState, loader: PretrainLoader, objective: Objective, engine: Engine, parts: int) -> None:
    """Compute the gradients of the first parts of a step of each phase, as it begins and ends, and drop them."""
    compute_in_parts(parts, state.model, loader, engine)
    state.model.train()
    try:
        for phase in range(len(loader.schedule.phases)):
            work = loader.work(phase, 0)[:2]  # the second has gradients beside it
            for fraction in ends_of(loader, phase):
                engine.backward(state.model, objective, work, step=0, of=1, fraction=fraction)
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)
    finally:
        state.model.zero_grad(set_to_none=True)


def ends_of(loader: PretrainLoader, phase: int) -> set[float]:
    """Return the progress at the beginning and at the end of a phase, where the most or fewest tokens are masked."""
    starts = [loader.schedule.start_of(number) for number in range(len(loader.schedule.phases))]
    return {starts[phase], [*starts, 1.0][phase + 1]}


def parts_by_room(state: TrainState, loader: PretrainLoader) -> int:
    """Return in how many parts what steps keep fits into half of this machine's memory beside weights and moments."""
    weights, machine = sum(4 * parameter.numel() for parameter in state.model.parameters()), machine_memory()
    if machine is None:
        return 1
    room = max(1, machine // 2 - (1 + STATE) * weights)
    return max(
        -(-(phase.rows // loader.accumulation) * kept_bytes(loader.shape, phase.length) // room)
        for phase in loader.schedule.phases
    )


@contextmanager
def memory_explained(state: TrainState, loader: PretrainLoader, objective: Objective, engine: Engine) -> Iterator[None]:
    """Turn memory that runs out inside into an OutOfMemoryError that names the step and what would fit."""
    try:
        yield
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        held: BaseException | None = error
        while held is not None:  # they hold the tensors of the step, and of one that could not be begun before
            clear_frames(held.__traceback__)
            held = held.__context__
        reason = (str(error).strip().splitlines() or [""])[0]
    raise OutOfMemoryError(_explanation(state, loader, objective, engine)) from MemoryError(reason)


def _explanation(state: TrainState, loader: PretrainLoader, objective: Objective, engine: Engine) -> str:
    """Return what ran out and what to do, by trial where this process is alone; its gradients and moments are lost."""
    parts, device = loader.parts, engine.device
    largest = max(loader.schedule.phases, key=lambda phase: phase.rows * phase.length)
    memory = ""
    if device.type == "cuda":
        memory = f" on {processor_name(device)} ({human_bytes(torch.cuda.get_device_properties(device).total_memory)})"
    said = (
        f"out of memory{memory}: {rows_at_a_time(loader, parts)} rows of {largest.length} tokens at a time do not fit"
    )
    if engine.group.size > 1:
        return f"{said}; give --batch-size auto, which computes the same step in parts, or a smaller --batch-size"
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    engine.forward_loss = engine.compiled_loss = None
    try:
        fits = fitting_parts(state, loader, objective, engine, least=parts)
        if fits == parts:
            said += " beside all that the run keeps and evaluates"
            fits = fitting_parts(state, loader, objective, engine, least=2 * parts)
    except OutOfMemoryError as error:
        return f"{said}, and {error}"
    return (
        f"{said}; {rows_at_a_time(loader, fits)} would: give --batch-size auto (or --engine.parts {fits}), which "
        "computes the same step in parts, or a smaller --batch-size"
    )
