"""Turns the flags of `bertwright finetune` into one resolved tree of settings; the defaults are the published ones.

AdamW, 10% warm-up and a linear fall to zero, dropout 0.1, 3 epochs of batches of 32: Devlin et al. (2018, appendix
A.3). Their learning rates, 2e-5 to 5e-5, are those of 768 and 1,024 units; smaller models want larger ones (Turc et
al., 2019, use 3e-5 to 3e-4 for 128 to 512 units), so the default is 3e-5 x 768 / width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from bertwright.config import Section, compose
from bertwright.device import DeviceName, Precision
from bertwright.errors import ConfigError
from bertwright.model.lora import Matrix
from bertwright.tasks.base import Task
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.head import HeadConfig
from bertwright.tasks.question_answering.task import AnswerConfig
from bertwright.train.config import TrackerName
from bertwright.train.interval import Every
from bertwright.train.optim.config import OptimizerConfig

PUBLISHED_RATE, PUBLISHED_WIDTH = 3e-5, 768
LORA_RATE, HEAD_RATE = 10.0, 30.0
"""Factors on that rate where adapters (Hu et al., 2021, table 9: 2e-4 to 5e-4), or the head alone, are trained."""


class TransferConfig(Section):
    """How the pre-trained weights are treated."""

    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate from each block to the one below it (Howard and Ruder, 2018; 0.65 to 0.95 for large
    models); 1 treats all alike."""
    freeze: Annotated[int, Field(ge=0)] | Literal["all"] = 0
    """Blocks, from the first, that stay as they are, and the embeddings with them; all of them leaves the head."""
    unfreeze: float = Field(default=0, ge=0, le=1)
    """Share of the run over which blocks thaw one by one, from the last to the first, and then the embeddings; the head
    learns alone at first (Howard and Ruder, 2018). 0: all are trained from the start."""
    lora_rank: int = Field(default=0, ge=0)
    """Rank of low-rank adapters beside matrices that stay as they are (Hu et al., 2021); 0 for none."""
    lora_alpha: float = Field(default=16.0, gt=0)
    """What adapters are multiplied by, times 1 / rank."""
    lora_matrices: tuple[Matrix, ...] = Field(default=("query", "value"), min_length=1)
    """Matrices of a block that have adapters: query, key, value, output, and inner for all of the inner layer."""
    r_drop: float = Field(default=0, ge=0)
    """Weight of the distance between two draws of dropout in the loss (Liang et al., 2021); 0 for one draw."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout inside the encoder; as its config.json says where not given."""
    head_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout before the head."""

    def refuse_all_but(self, known: Collection[str], *, task: str) -> None:
        """Raise ConfigError where something else than the settings `known` is asked for: `task` has no use for it."""
        usual = TransferConfig()
        strange = [name for name in type(self).model_fields if getattr(self, name) != getattr(usual, name)]
        odd = next((name for name in sorted(strange) if name not in known), None)
        if odd is not None:
            raise ConfigError(f"transfer.{odd}: {task} knows {', '.join(sorted(known))} alone")

    def frozen(self, layers: int) -> int:
        """Return how many of `layers` blocks are frozen."""
        return layers if self.freeze == "all" else self.freeze

    def faster(self, layers: int) -> float:
        """Return the factor on the default learning rate: few new weights want a larger one than many known ones."""
        return HEAD_RATE if self.frozen(layers) == layers else LORA_RATE if self.lora_rank else 1.0


class WatchConfig(Section):
    """How a run is judged on dev while it goes on."""

    metric: str | None = None
    """Figure the best checkpoint is chosen by; that of the task where not given."""
    evaluations: int = Field(default=1, ge=1)
    """Evaluations on dev an epoch."""
    evaluate_every: Every | None = None
    """Steps (500) or time (90s, 2min, 1h) between two evaluations on dev, in place of those an epoch; one more is at
    the end of the run."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many evaluations in a row without a better one; never where not given."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of metrics.jsonl."""
    track: TrackerName | None = None
    """Write these lines as curves too: tensorboard, wandb or mlflow."""
    mistakes: int = Field(default=20, ge=0)
    """Worst errors shown in report.html."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """Minutes between two checkpoints to resume from; they are deleted when the run is done."""
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """Steps between two of them as well; where not given, minutes alone count."""


class BatchConfig(Section):
    """How examples make a step."""

    rows: int = Field(default=32, ge=1)
    """Examples a step."""
    tokens: int = Field(default=8192, ge=16)
    """Tokens a step at most, padding included: steps of long texts have fewer examples."""
    max_length: int = Field(default=512, ge=8)
    """Longest row in tokens, [CLS] and [SEP] included; at most the model's positions."""


class SplitConfig(Section):
    """Which examples a checkpoint is chosen by, where no dev file is given."""

    dev_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training file that is held out, by a hash of the texts."""


class SpanConfig(Section):
    """How long the run is, and how the learning rate moves: up from zero, then linearly down to it."""

    epochs: float = Field(default=3.0, gt=0)
    """Passes over the training file."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the run in which the learning rate rises."""


class FinetuneEngineConfig(Section):
    """How steps are computed."""

    device: DeviceName = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    accumulation: int = Field(default=1, ge=1)
    """Parts that a step is computed in, one after another: less memory, and the same model but for rounding."""
    compile: bool | None = None
    """Whether steps run compiled; where not given, if the run is long enough to win back the time that takes."""


class FinetuneConfig(Section):
    """Everything a fine-tuning run is made of, resolved."""

    task: str
    """The task, as `bertwright finetune` calls it."""
    seed: int = Field(default=0, ge=0)
    """Seed of the head, the order of the examples and dropout; further seeds count up from it."""
    precision: Precision = "auto"
    """auto (bf16 where the hardware multiplies it), bf16 or fp32; a finished model is always judged in fp32."""
    columns: ColumnsConfig = ColumnsConfig()
    head: HeadConfig = HeadConfig()
    split: SplitConfig = SplitConfig()
    batches: BatchConfig = BatchConfig()
    engine: FinetuneEngineConfig = FinetuneEngineConfig()
    schedule: SpanConfig = SpanConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    transfer: TransferConfig = TransferConfig()
    watch: WatchConfig = WatchConfig()
    answer: AnswerConfig = AnswerConfig()
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of a task that has some of its own and no section here."""

    def own(self, task: type[Task[Any]]) -> dict[str, Any]:
        """Return the settings that are those of one task alone; none for most. Raises ConfigError."""
        options = compose(task.options, self.options).model_dump()
        section = getattr(self, task.name, None)
        return (section.model_dump() if isinstance(section, Section) else {}) | options

    def dev_fraction_for(self, files: Mapping[str, Any]) -> float | None:
        """Return the share of the training file that is held out; None where there is a dev file among `files`."""
        return None if "dev" in files else self.split.dev_fraction

    def fitted(self, *, width: int, positions: int, faster: float = 1.0) -> Self:
        """Return the settings for a model of `width` units and so many positions.

        The learning rate is the published one for that width, so many times `faster`, where none was given.
        """
        optimizer = self.optimizer
        if "learning_rate" not in optimizer.model_fields_set:
            rate = PUBLISHED_RATE * PUBLISHED_WIDTH / width * faster
            optimizer = optimizer.model_copy(update={"learning_rate": rate})
        batches = self.batches.model_copy(update={"max_length": min(self.batches.max_length, positions)})
        return self.model_copy(update={"optimizer": optimizer, "batches": batches})


def resolve_finetune(task: str, settings: Mapping[str, Any]) -> FinetuneConfig:
    """Return the defaults with `settings` laid over them; raises ConfigError."""
    return compose(FinetuneConfig, {"task": task, **settings})
