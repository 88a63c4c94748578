"""Settings of the engine itself: what does not change what is learned, only how the run is carried out and watched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from bertwright.config import Section
from bertwright.device import DeviceName, TrainingPrecision
from bertwright.train.interval import Every

TrackerName = Literal["tensorboard", "wandb", "mlflow"]


class EngineConfig(Section):
    """How a run is carried out and watched."""

    precision: TrainingPrecision = "auto"
    """auto (bf16 where the hardware multiplies it, fp16 on GPUs that multiply that alone), bf16, fp16 or fp32. On a
    GPU, products that stay float32 run in TF32, but where fp32 is given."""
    device: DeviceName = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    compile: bool | Literal["auto"] = "auto"
    """Run compiled steps: auto (where the run is long enough to win back the time of compiling, from a step that the
    run finds itself), true (from the first step) or false. Where compiling fails the run goes on uncompiled and says
    so."""
    compiled_from: int | None = Field(default=None, ge=0)
    """The step from which steps run compiled where compile is auto; a run finds it, and leaves it in config.toml."""
    autotune: bool = False
    """Let the compiler time several kernels for each product and keep the fastest: minutes more to compile, for GPUs
    and long runs."""
    accumulation: int = Field(default=1, ge=1)
    """Micro-batches a step; each phase's rows must divide by it. Several processes share them out."""
    parts: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Parts that a micro-batch is computed in, one after another: less memory, the same batch, masks and loss but for
    rounding (on a GPU each part has a dropout of its own). auto: as few as fit into memory, found by trial on a GPU and
    computed on a CPU; the run leaves their number in config.toml."""
    parallel: Literal["ddp", "zero1", "fsdp"] = "ddp"
    """Of several processes (torchrun): ddp, each holds all weights; zero1, that too, but a share of the optimizer's
    moments; or fsdp, each holds a share of all."""
    timeout: float = Field(default=600.0, gt=0)
    """Seconds without an answer after which another process is taken for lost, and the run ends or is restarted."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of metrics.jsonl."""
    track: TrackerName | None = None
    """Write these lines as curves too: tensorboard, wandb or mlflow."""
    evaluations: int | None = Field(default=None, ge=1)
    """Held-out evaluations, spread evenly over the run; the last one is at its end. Where not given, as many as take 5%
    of the run's work, by counted operations: 1 to 20."""
    evaluate_every: Every | None = None
    """Steps (500) or time (90s, 2min, 1h) between two held-out evaluations, in place of `evaluations`; one more is at
    the end of the run."""
    evaluation_rows: int = Field(default=1024, ge=1)
    """Rows of the fixed held-out set, at the length of the first phase."""
    general: str | None = None
    """A DATA folder of general text, prepared with the same tokenizer: its held-out rows are evaluated too, to see what
    a run on a domain forgets."""
    probes: tuple[str, ...] = ()
    """Files that say at each evaluation what the model knows: minimal pairs (JSON lines of "good" and "bad"), or
    labelled texts, told apart by a logistic regression over the frozen encoder."""
    snapshots: int | None = Field(default=None, ge=1, le=64)
    """Models kept of the way, as MODEL folders in RUN/snapshots: before the first step, then each at twice the progress
    of the one before, the last at half of the run."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """Minutes between two checkpoints; the first one comes after a minute at the latest."""
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """Steps between two checkpoints, on top of the minutes."""
    keep: int = Field(default=2, ge=1)
    """Newest checkpoints kept."""
    keep_best: bool = False
    """Keep the checkpoint with the lowest held-out loss too, and make one whenever an evaluation finds it lower."""
    keep_hours: float | None = Field(default=None, gt=0)
    """Keep the first checkpoint in every so many hours of training too."""

    @property
    def files(self) -> list[Path]:
        """What evaluations read beside the data of the run."""
        return [Path(file) for file in (*([self.general] if self.general else []), *self.probes)]
