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
from bertwright.objectives.base import Objective
from bertwright.train.auxiliary import encoder_of
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.setup.assemble import compiled_loss, compiled_parts, join_processes
from bertwright.train.setup.compile_ahead import BackgroundCompiler, is_kept, mark_kept
from bertwright.train.setup.kernels_in_use import gpu_facts
from bertwright.train.setup.pretrain_config import PretrainConfig, keep_found
from bertwright.train.setup.pretrain_loader import PretrainLoader
from bertwright.train.state import TrainState
from bertwright.train.step import Engine, ForwardLoss

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
NOTED_EVERY = 10.0
"""Seconds between two lines while a run waits for the compiler."""


@dataclass(frozen=True)
class CompilePlan:
    """From which step on steps run compiled, and why, in words."""

    start: int | None
    """None: never, or not known before the speed is."""
    why: str
    by_speed: bool = False


def plan_of(config: PretrainConfig, loader: PretrainLoader, engine: Engine, *, step: int) -> CompilePlan:
    """Return the plan of a run that begins, or goes on, at `step`."""
    settings, schedule, device = config.engine, config.schedule, engine.device.type
    if settings.compile is False:
        return CompilePlan(None, "steps run uncompiled, as engine.compile says")
    if settings.compile is True:
        return CompilePlan(0, "steps run compiled from the first one on, as engine.compile says")
    beside = engine.group.size == 1 and AHEAD[device] > 0
    if settings.compiled_from is not None and (beside or settings.compiled_from <= step):
        return CompilePlan(
            settings.compiled_from, f"steps run compiled from step {settings.compiled_from:,} on, as config.toml says"
        )
    if schedule.unit == "minutes":
        if not beside:
            return CompilePlan(0, "steps run compiled from the first one on")
        if schedule.amount * 60 > WORTH_READING and is_kept(config, loader, engine):
            return CompilePlan(step, "steps run compiled: the code of an earlier run is read")
        return CompilePlan(None, "whether to compile is decided by the speed of the first steps", by_speed=True)
    work, worth = loader.run_flops(peak=0.0, seconds=0.0), worth_compiling(loader, engine)
    if work <= worth:
        return CompilePlan(
            None, f"steps run uncompiled: compiling pays from {worth:.1e} operations, and this run has {work:.1e}"
        )
    start = math.ceil(AHEAD[device] / float(loader.step_flops(0, 0.0))) if beside else 0
    return CompilePlan(
        start,
        f"steps run compiled from step {start:,} on: this run has {work:.1e} operations, and compiling pays from "
        f"{worth:.1e}",
    )


def worth_compiling(loader: PretrainLoader, engine: Engine) -> float:
    """Return the operations of a run above which compiling pays: every shape of its batches is compiled by itself."""
    shapes = {(phase.length, phase.rows, phase.causal) for phase in loader.schedule.phases}
    return WORTH[engine.device.type] * len(shapes)


@dataclass
class CompileCallback(Callback):
    """Has the steps of `engine` compiled as its plan says.

    It stands before the other callbacks: a run that is stopped while it waits for the compiler waits again on resuming.
    """

    data: Path
    """The DATA folder of the run, for the other process."""
    out: Path
    config: PretrainConfig
    train_state: TrainState
    loader: PretrainLoader
    objective: Objective
    engine: Engine
    plan: CompilePlan
    until: Callable[[Iterable[bool]], Iterator[bool]] = iter
    """Yields the values it is given, or raises where a stop was requested."""
    compiler: BackgroundCompiler | None = None
    done: bool = False
    """Whether nothing is left to do."""
    first: tuple[int, float] | None = field(default=None, init=False)
    """Steps and seconds where the measuring began."""

    def begin(self) -> None:
        """Compile where the plan wants it by now, and have the engine compute the gradients of all processes."""
        note(self.plan.why)
        start, loss = self.plan.start, None
        if self.engine.device.type == "cuda":
            model = encoder_of(self.train_state.model)
            note(gpu_facts(model, self.loader, self.objective, self.engine, compiled=start is not None))
        if start is None or start > self.train_state.progress.step:
            self.engine.fewer_threads_before = start or 0
            self.done = start is None and not self.plan.by_speed
        elif self.engine.group.size == 1:
            self.done = True
            self.compile(from_step=start)
        else:
            self.done = True
            with working("compiling the step"):
                loss = compiled_parts(self.train_state, self.loader, self.objective, self.engine)
        join_processes(self.train_state, self.objective, self.engine, self.config, loss)

    def start(self) -> None:
        """Start the compiler, where the plan says already that it is needed."""
        if not self.done and not self.plan.by_speed:
            self._start_compiler("compiling in another process; steps run uncompiled meanwhile")

    def on_step(self, report: StepReport) -> None:
        """Measure, wait or change over, as the plan says."""
        if self.done or report.last:
            return
        if self.compiler is None:
            self._measure(report)
            return
        exact = self.config.schedule.unit != "minutes"
        if exact and self.plan.start is not None and report.progress.step >= self.plan.start:
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
        kept = self.config, self.loader, self.engine
        with working("reading the compiled step" if is_kept(*kept) else "compiling the step"):
            loss = self._compiled()
        if loss is not None:
            self.engine.compiled_loss, self.engine.compiled_from = loss, from_step
            mark_kept(*kept)
            if self.config.engine.compile == "auto":
                keep_found(self.out, compiled_from=from_step)

    def _compiled(self) -> ForwardLoss | None:
        autotune = self.config.engine.autotune
        return compiled_loss(self.train_state, self.loader, self.objective, self.engine, autotune=autotune)

    def _measure(self, report: StepReport) -> None:
        """Start the compiler if, at the speed of the first steps, enough operations are left of the run."""
        progress, schedule = report.progress, self.config.schedule
        if self.first is None:
            self.first = progress.step, progress.seconds
            return
        steps, seconds = progress.step - self.first[0], progress.seconds - self.first[1]
        if steps < MEASURED:
            return
        each = self.loader.step_flops(report.phase, report.fraction)
        work = max(0.0, schedule.amount * 60 - progress.seconds) * steps * each / max(seconds, 1e-9)
        worth = worth_compiling(self.loader, self.engine)
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
            self.compiler = BackgroundCompiler(self.data, self.config, self.engine)
            if self.plan.by_speed:
                self.engine.fewer_threads_before = sys.maxsize
            note(why)
        except OSError as error:
            self.done = True
            note(f"running uncompiled, slower: no process for the compiler could be started ({error})")

    def _wait(self, compiler: BackgroundCompiler) -> None:
        noted = time.perf_counter()
        for _ in self.until(iter(compiler.working, False)):
            if time.perf_counter() - noted >= NOTED_EVERY:
                noted = time.perf_counter()
                note(f"waiting for the compiler, which has worked for {compiler.elapsed:.0f} s")
            time.sleep(0.05)

    def _change_over(self, compiler: BackgroundCompiler, report: StepReport) -> None:
        progress, schedule = report.progress, self.config.schedule
        self.done = True
        if self.plan.by_speed:
            self.engine.fewer_threads_before = 0
        failure = compiler.failure()
        self.close()
        if failure is not None:
            note(f"running uncompiled, slower: the compiler did not work here ({failure})")
        elif schedule.unit == "minutes" and schedule.amount * 60 - progress.seconds < WORTH_READING:
            note("steps stay uncompiled: too little is left of the run to read the code")
        else:
            start = progress.step if self.plan.start is None else self.plan.start
            if schedule.unit == "minutes":
                start = max(start, progress.step)
            note(f"compiled in {compiler.elapsed:.0f} s; steps run compiled from step {start:,} on")
            self.compile(from_step=start)
