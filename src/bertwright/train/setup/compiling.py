"""Decides from which step on a run is compiled, has the code made beside the run, and changes over at that step.

Compiled steps take 10 to 20% less time than uncompiled ones on a CPU, and compiling takes a minute of a core. So a run
that is measured in steps, tokens or epochs counts its operations: below WORTH it never compiles; above, it trains
uncompiled for AHEAD operations, on one thread fewer, while another process compiles, and waits there if that is late.
All of it follows from settings, data and device, so the same command gives the same weights however often it is
stopped. A run measured in minutes goes by the speed of its first steps, changes over when the code is there, and leaves
the number of that step in RUN/config.toml for its later starts.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bertwright.log import note, working
from bertwright.model.config import training_flops
from bertwright.train.loop import StepReport
from bertwright.train.schedule import Phase
from bertwright.train.setup.compile_ahead import BackgroundCompiler, is_kept, mark_kept
from bertwright.train.setup.evaluation_count import run_work
from bertwright.train.setup.pretrain_config import keep_found
from bertwright.train.setup.run import Parts, compiled_loss, plain_step
from bertwright.train.step import TrainStep

WORTH = {"cpu": 4e13, "cuda": 2e15}
"""Floating-point operations of a run, for each shape of its batches, above which compiling takes less time than it
saves. On two cores with AVX512-bf16, compiling takes 65 seconds of a core. After it, steps of `fast` at mini take a
fifth less time (4 minutes, 4.5e13 operations: it pays), those of `classic-fast` at tiny a tenth (4 minutes, 3.5e13: it
does not)."""
AHEAD = {"cpu": 1e13, "cuda": 0.0}
"""Operations that are trained uncompiled while another process compiles: about what two cores do beside it. A GPU has
no room for a second process, and compiles first."""
WORTH_READING = 60.0
"""Seconds that must be left of a run for it to read finished code, which takes about ten."""
MEASURED = 5
"""Steps that the speed of a run is measured by."""
SAID_EVERY = 10.0
"""Seconds between two lines while a run waits for the compiler."""


@dataclass(frozen=True)
class CompilePlan:
    """From which step on steps run compiled, and why, in words."""

    start: int | None
    """None: never, or not known before the speed is."""
    why: str
    by_speed: bool = False


def plan_of(parts: Parts, *, step: int) -> CompilePlan:
    """Return the plan of a run that begins, or goes on, at `step`."""
    engine, schedule, device = parts.config.engine, parts.config.schedule, parts.device.type
    if parts.sharded:
        return CompilePlan(None, "steps run uncompiled: sharded weights are not compiled")
    if engine.compile is False:
        return CompilePlan(None, "steps run uncompiled, as engine.compile says")
    if engine.compile is True:
        return CompilePlan(0, "steps run compiled from the first one on, as engine.compile says")
    beside = parts.group.size == 1 and AHEAD[device] > 0
    if engine.compiled_from is not None and (beside or engine.compiled_from <= step):
        return CompilePlan(
            engine.compiled_from, f"steps run compiled from step {engine.compiled_from:,} on, as config.toml says"
        )
    if schedule.unit == "minutes":
        if not beside:
            return CompilePlan(0, "steps run compiled from the first one on")
        if schedule.amount * 60 > WORTH_READING and is_kept(parts):
            return CompilePlan(step, "steps run compiled: the code of an earlier run is read")
        return CompilePlan(None, "whether to compile is decided by the speed of the first steps", by_speed=True)
    work, worth = run_work(parts, peak=0.0, seconds=0.0), worth_compiling(parts)
    if work <= worth:
        return CompilePlan(
            None, f"steps run uncompiled: compiling pays from {worth:.1e} operations, and this run has {work:.1e}"
        )
    start = math.ceil(AHEAD[device] / operations(parts, schedule.phases[0], 0.0)) if beside else 0
    return CompilePlan(
        start,
        f"steps run compiled from step {start:,} on: this run has {work:.1e} operations, and compiling pays from "
        f"{worth:.1e}",
    )


def operations(parts: Parts, phase: Phase, progress: float) -> float:
    """Return the floating-point operations of a step of a phase, at a progress in [0, 1] of the run."""
    masked = parts.objective.masked_slots(phase.length, progress)
    return float(training_flops(parts.shape, rows=phase.rows, length=phase.length, masked=masked))


def worth_compiling(parts: Parts) -> float:
    """Return the operations of a run above which compiling pays: every shape of its batches is compiled by itself."""
    shapes = {(phase.length, phase.rows) for phase in parts.config.schedule.phases}
    return WORTH[parts.device.type] * len(shapes)


@dataclass
class CompileListener:
    """Has the step compiled as its plan says.

    It stands before the other callbacks: a run that is stopped while it waits for the compiler waits again on resuming.
    """

    data: Path
    out: Path
    parts: Parts
    plan: CompilePlan
    step: TrainStep
    until: Callable[[Iterable[bool]], Iterator[bool]] = iter
    """Yields the values it is given, or raises where someone asked to stop."""
    compiler: BackgroundCompiler | None = None
    done: bool = False
    """Whether nothing is left to do."""
    first: tuple[int, float] | None = field(default=None, init=False)
    """Steps and seconds where the measuring began."""

    @classmethod
    def begin(cls, data: Path, out: Path, parts: Parts, *, step: int) -> CompileListener:
        """Return the callback of a run that begins, or goes on, at `step`; compile where the plan wants it by now."""
        plan = plan_of(parts, step=step)
        note(plan.why)
        if plan.start is None or plan.start > step:
            plain = plain_step(parts)
            plain.fewer_threads_before = plan.start or 0
            return cls(data, out, parts, plan, plain, done=plan.start is None and not plan.by_speed)
        if parts.group.size == 1:
            callback = cls(data, out, parts, plan, plain_step(parts), done=True)
            callback.compile(from_step=plan.start)
            return callback
        with working("compiling the step"):
            loss = compiled_loss(parts)
        return cls(data, out, parts, plan, plain_step(parts, forward_loss=loss), done=True)

    def start(self, until: Callable[[Iterable[bool]], Iterator[bool]]) -> None:
        """Start the compiler, where the plan says already that it is needed."""
        self.until = until
        if not self.done and not self.plan.by_speed:
            self._start_compiler("compiling in another process; steps run uncompiled meanwhile")

    def __call__(self, report: StepReport) -> None:
        """Hear of a step: measure, wait or change over, as the plan says."""
        if self.done or report.last:
            return
        if self.compiler is None:
            self._measure(report)
            return
        exact = self.parts.config.schedule.unit != "minutes"
        if exact and self.plan.start is not None and report.position.step >= self.plan.start:
            self._wait(self.compiler)
        if self.compiler.working():
            report.notes["compiling"] = self.compiler.elapsed
            return
        self._change_over(self.compiler, report)

    def close(self) -> None:
        """End the compiler, if it still works."""
        if self.compiler is not None:
            self.compiler.stop()
            self.compiler = None

    def compile(self, *, from_step: int) -> None:
        """Compile the step in this process, or read its code; it is used from `from_step` on."""
        with working("reading the compiled step" if is_kept(self.parts) else "compiling the step"):
            loss = compiled_loss(self.parts)
        if loss is not None:
            self.step.compiled_loss, self.step.compiled_from = loss, from_step
            mark_kept(self.parts)
            if self.parts.config.engine.compile == "auto":
                keep_found(self.out, compiled_from=from_step)

    def _measure(self, report: StepReport) -> None:
        """Start the compiler if, at the speed of the first steps, enough operations are left of the run."""
        position, schedule = report.position, self.parts.config.schedule
        if self.first is None:
            self.first = position.step, position.seconds
            return
        steps, seconds = position.step - self.first[0], position.seconds - self.first[1]
        if steps < MEASURED:
            return
        each = operations(self.parts, schedule.phases[report.phase], report.progress)
        work = max(0.0, schedule.amount * 60 - position.seconds) * steps * each / max(seconds, 1e-9)
        worth = worth_compiling(self.parts)
        if work <= worth:
            note(f"steps run uncompiled: {work:.1e} operations are left at this speed; compiling pays from {worth:.1e}")
            self.done = True
            return
        self._start_compiler(
            f"compiling in another process while training goes on: {work:.1e} operations are left at this speed; "
            f"compiling pays from {worth:.1e}"
        )

    def _start_compiler(self, why: str) -> None:
        """Start the other process, or go on uncompiled where none can be started."""
        try:
            self.compiler = BackgroundCompiler(self.data, self.parts)
            if self.plan.by_speed:
                self.step.fewer_threads_before = sys.maxsize
            note(why)
        except OSError as error:
            self.done = True
            note(f"running uncompiled, slower: no process for the compiler could be started ({error})")

    def _wait(self, compiler: BackgroundCompiler) -> None:
        said = time.perf_counter()
        for _ in self.until(iter(compiler.working, False)):
            if time.perf_counter() - said >= SAID_EVERY:
                said = time.perf_counter()
                note(f"waiting for the compiler, which has worked for {compiler.elapsed:.0f} s")
            time.sleep(0.05)

    def _change_over(self, compiler: BackgroundCompiler, report: StepReport) -> None:
        position, schedule = report.position, self.parts.config.schedule
        self.done = True
        if self.plan.by_speed:
            self.step.fewer_threads_before = 0
        failure = compiler.failure()
        self.close()
        if failure is not None:
            note(f"running uncompiled, slower: the compiler did not work here ({failure})")
        elif schedule.unit == "minutes" and schedule.amount * 60 - position.seconds < WORTH_READING:
            note("steps stay uncompiled: too little is left of the run to read the code")
        else:
            start = position.step if self.plan.start is None else self.plan.start
            if schedule.unit == "minutes":
                start = max(start, position.step)
            note(f"compiled in {compiler.elapsed:.0f} s; steps run compiled from step {start:,} on")
            self.compile(from_step=start)
