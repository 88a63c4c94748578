"""Turns the flags of `bertwright finetune` into one resolved tree of settings; the defaults are the published ones.

AdamW, 10% warm-up and a linear fall to zero, dropout 0.1, 3 epochs of batches of 32: Devlin et al. (2018, appendix
A.3). Their learning rates, 2e-5 to 5e-5, are those of 768 and 1,024 units; smaller models want larger ones (Turc et
al., 2019, use 3e-5 to 3e-4 for 128 to 512 units), so the default is 3e-5 x (768 / width)^2, measured at 128, 256 and
384 units (results/README.md). Larger models, few new weights (adapters, the head alone) and few examples go by 768 /
width itself.

Of translation: label smoothing 0.1 and beam search with 4 texts are those of Vaswani et al. (2017, sections 5.4 and
6.1). The learning rate is that of the best of three short runs on Multi30k at 128 units (150 steps of random weights:
1e-3, 3e-3 and 6e-3 end at 5.22, 4.53 and 4.81 nats a token on dev), and near the published ones at 768 (Rothe et al.
2020: 5e-5).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from bertwright.config import Section, compose
from bertwright.device import DeviceName, TrainingPrecision
from bertwright.errors import ConfigError
from bertwright.model.config import ModelConfig
from bertwright.model.lora import Matrix
from bertwright.tasks.base import Task
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.task import EmbedConfig
from bertwright.tasks.head import WINDOW_OVERLAP, HeadConfig
from bertwright.tasks.question_answering.task import AnswerConfig
from bertwright.tasks.translation.reader import SidesConfig
from bertwright.train.config import TrackerName
from bertwright.train.interval import Every
from bertwright.train.optim.config import OptimizerConfig

PUBLISHED_RATE, PUBLISHED_WIDTH = 3e-5, 768
TRANSLATION_RATE = 1e-4
"""The learning rate of translation at that width; others get it by the square of the width: 9e-4 at 256."""
LORA_RATE, HEAD_RATE = 10.0, 30.0
"""Factors on 3e-5 x 768 / width where adapters (Hu et al., 2021, table 9: 2e-4 to 5e-4), or the head alone, are
trained."""


class TransferConfig(Section):
    """How the pre-trained weights are treated."""

    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate from each block to the one below it (Howard and Ruder, 2018; 0.65 to 0.95 for large
    models); 1 treats all alike."""
    freeze: Annotated[int, Field(ge=0)] | Literal["all"] = 0
    """Blocks, from the first, that stay as they are, and the embeddings with them; all of them leaves the head."""
    unfreeze: float = Field(default=0, ge=0, le=1)
    """Share of the run over which blocks are unfrozen one by one, from the last to the first, and then the embeddings;
    the head learns alone at first (Howard and Ruder, 2018). 0: all are trained from the start."""
    lora_rank: int = Field(default=0, ge=0)
    """Rank of low-rank adapters beside matrices that stay as they are (Hu et al., 2021); 0 for none."""
    lora_alpha: float = Field(default=16.0, gt=0)
    """What adapters are multiplied by, times 1 / rank."""
    lora_matrices: tuple[Matrix, ...] = Field(default=("query", "value"), min_length=1)
    """Matrices of a block that have adapters: query, key, value, output, and inner for all of the inner layer."""
    r_drop: float = Field(default=0, ge=0)
    """Weight of the distance between two draws of dropout in the loss (Liang et al., 2021); 0 for one draw."""
    few_shot: bool = False
    """Whether the encoder first learns from pairs of the training texts, and the head is fitted to them at once
    (Tunstall et al., 2022, "SetFit"); for tens of examples."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout inside the encoder; as its config.json says where not given."""
    head_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout before the head."""

    def refuse_all_but(self, known: Collection[str], *, task: str) -> None:
        """Raise ConfigError where something else than the settings `known` is asked for: `task` has no use for it."""
        usual = TransferConfig()
        changed = [name for name in type(self).model_fields if getattr(self, name) != getattr(usual, name)]
        odd = next((name for name in sorted(changed) if name not in known), None)
        if odd is not None:
            raise ConfigError(f"transfer.{odd}: {task} knows {', '.join(sorted(known))} alone")

    def frozen(self, layers: int) -> int:
        """Return how many of `layers` blocks are frozen."""
        return layers if self.freeze == "all" else self.freeze

    def usual_rate(self, *, width: int, layers: int) -> float:
        """Return the default learning rate for a model of `layers` blocks of `width` units.

        Few new weights want a larger one than many known ones, and few examples a smaller one than many.
        """
        narrow = PUBLISHED_WIDTH / width
        everything = 1.0 if self.few_shot else max(1.0, narrow)
        faster = HEAD_RATE if self.frozen(layers) == layers else LORA_RATE if self.lora_rank else everything
        return PUBLISHED_RATE * narrow * faster


class WatchConfig(Section):
    """How a run is evaluated on dev while it goes on."""

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
    suspects: bool = False
    """classify, with folds: write the examples whose label is doubtful to suspects.jsonl."""
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
    folds: int | None = Field(default=None, ge=2)
    """Parts of the training file, each predicted by a model trained on the others; the model that is written is trained
    on all of it. Nothing else is held out then."""


class SpanConfig(Section):
    """How long the run is, and how the learning rate moves: up from zero, then linearly down to it."""

    epochs: float = Field(default=3.0, gt=0)
    """Passes over the training file."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the run in which the learning rate rises."""

    def budget(self, steps: int) -> dict[str, Any]:
        """Return how long the run is, as `ScheduleConfig` has it; `steps` are those of so many epochs."""
        return {"steps": steps}


class FinetuneEngineConfig(Section):
    """How steps are computed."""

    device: DeviceName = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    accumulation: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Parts that a step is computed in, one after another: less memory, and the same model but for rounding. auto: as
    few as fit into memory, by the lengths of a batch, as on a CPU in any case."""
    recompute: bool = False
    """Whether blocks are computed again in the backward pass: less memory, more time, and the same model."""
    compile: bool | None = None
    """Whether steps run compiled; where not given, if the run is long enough to win back the time that takes."""


class FinetuneConfig(Section):
    """Everything a fine-tuning run is made of, resolved."""

    task: str
    """The task, as `bertwright finetune` calls it."""
    seed: int = Field(default=0, ge=0)
    """Seed of the head, the order of the examples and dropout; further seeds count up from it."""
    precision: TrainingPrecision = "auto"
    """auto (bf16 where the hardware multiplies it, fp16 on GPUs that multiply that alone), bf16, fp16 or fp32; a
    finished model is always evaluated in fp32. On a GPU, products that stay float32 meanwhile run in TF32, but where
    fp32 is given."""
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

    def check(self) -> None:
        """Raise ConfigError where settings do not fit the task."""
        watch = self.watch
        if self.split.folds and (watch.patience or watch.evaluate_every):
            raise ConfigError(
                "split.folds: folds are trained to the end of their schedule, so that nothing is chosen "
                "by them; leave --patience and --eval-every out"
            )
        if self.head.window_overlap != WINDOW_OVERLAP and not self.head.windows:
            raise ConfigError("head.window_overlap: nothing is cut into windows; give --windows max, or leave it out")
        if self.head.windows and self.transfer.r_drop:
            raise ConfigError(
                "transfer.r_drop: it compares rows, and windows are parts of a text; leave one of them out"
            )
        if watch.suspects and (self.task != "classify" or self.head.multi_label):
            raise ConfigError("watch.suspects: doubtful labels are found for classify, one label a text")
        if watch.suspects and not self.split.folds:
            raise ConfigError("watch.suspects: labels are compared with predictions of other folds; give --folds 5")

    def extra_config(self, task: type[Task[Any]]) -> dict[str, Any]:
        """Return the settings that are those of one task alone; none for most. Raises ConfigError."""
        options = compose(task.options, self.options).model_dump()
        section = getattr(self, task.name, None)
        return (section.model_dump() if isinstance(section, Section) else {}) | options

    def dev_fraction_for(self, files: Mapping[str, Any]) -> float | None:
        """Return the share of the training file that is held out; None where there is a dev file among `files`."""
        return None if "dev" in files or self.split.folds else self.split.dev_fraction

    def fitted(self, shape: ModelConfig, *, positions: int) -> Self:
        """Return the settings for a model of a shape that reads so many positions.

        The learning rate is the usual one for that shape where none was given.
        """
        optimizer = self.optimizer
        if "learning_rate" not in optimizer.model_fields_set:
            optimizer = optimizer.model_copy(update={"learning_rate": self.usual_rate(shape)})
        batches = self.batches.model_copy(update={"max_length": min(self.batches.max_length, positions)})
        return self.model_copy(update={"optimizer": optimizer, "batches": batches})

    def usual_rate(self, shape: ModelConfig) -> float:
        """Return the default learning rate for a model of a shape."""
        return self.transfer.usual_rate(width=shape.hidden_size, layers=shape.layers)

    def refuse_unused(self, transfer: Collection[str]) -> None:
        """Raise ConfigError for settings that a task without a head has no use for; it knows those of `transfer`."""
        self.transfer.refuse_all_but(transfer, task=self.task)
        if self.split.folds or self.watch.suspects:
            raise ConfigError(
                f"split.folds: folds are for tasks with a head; {self.task} has none, so leave --folds out"
            )
        self.head.refuse("multi_label", "class_weights", "crf", "positive", "windows", task=self.task)
        compose(Section, self.options)  # there are none


class SentenceBatchConfig(BatchConfig):
    """How examples of sentence vectors make a step."""

    rows: int = Field(default=64, ge=1)
    """Examples a step: each is compared with all others of it (Gao et al., 2021, use 64 for SimCSE)."""


class EmbedTuneConfig(FinetuneConfig):
    """Everything a run that trains sentence vectors is made of, resolved."""

    batches: SentenceBatchConfig = SentenceBatchConfig()
    embed: EmbedConfig = EmbedConfig()

    def check(self) -> None:
        """Raise ConfigError where something is asked for that other tasks alone know."""
        self.refuse_unused({"freeze", "dropout", "layer_decay"})


class PairBatchConfig(BatchConfig):
    """How pairs make a step."""

    rows: int = Field(default=64, ge=1)
    """Pairs a step."""
    max_length: int = Field(default=256, ge=8)
    """Longest row in tokens on either side, [CLS] and [SEP] included; at most the model's positions."""


class PairSpanConfig(SpanConfig):
    """How long the run is, and how the learning rate moves: up from zero, then linearly down to it."""

    epochs: float = Field(default=10.0, gt=0)
    """Passes over the training pairs; with `minutes`, the evaluations on dev alone are spread as over so many."""
    minutes: float | None = Field(default=None, gt=0)
    """Wall-clock minutes of training, evaluation along the way included, instead of a number of passes."""

    def budget(self, steps: int) -> dict[str, Any]:
        """Return the minutes where they are given, else the steps."""
        return {"minutes": self.minutes} if self.minutes else {"steps": steps}


class WritingConfig(SidesConfig):
    """Which side is which, what the decoder starts from, and how it writes."""

    start: Literal["both", "encoder", "neither"] = "both"
    """What starts from pre-trained weights: encoder and decoder, the encoder alone, or neither of them."""
    decoder_layers: int | None = Field(default=None, ge=1)
    """Blocks of the decoder, evenly spaced ones of the pre-trained model; as many as that has where not given."""
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the probability of each label that is spread over the vocabulary in training."""
    beams: int = Field(default=4, ge=1)
    """Texts kept for each source while a translation is searched for; 1 takes the most probable token each time."""
    length_penalty: float = 1.0
    """A text of n tokens scores its log probability / n to this power: 0 favours short ones."""
    longest: int | None = Field(default=None, ge=2)
    """Most tokens of a translation; one and a half times those of the longest training target where not given."""


class TranslateConfig(FinetuneConfig):
    """Everything a translation run is made of, resolved."""

    batches: PairBatchConfig = PairBatchConfig()
    schedule: PairSpanConfig = PairSpanConfig()
    translate: WritingConfig = WritingConfig()

    def usual_rate(self, shape: ModelConfig) -> float:
        """Return the learning rate of translation for a model of a shape."""
        return TRANSLATION_RATE * (PUBLISHED_WIDTH / shape.hidden_size) ** 2

    def check(self) -> None:
        """Raise ConfigError where something is asked for that other tasks alone know."""
        self.refuse_unused({"freeze", "dropout"})
        if self.engine.recompute:
            raise ConfigError("engine.recompute: a decoder is not computed again; give --accumulation for less memory")
        if self.engine.compile:
            raise ConfigError("engine.compile: steps of translate do not run compiled; leave it out")
        if self.columns.names():
            raise ConfigError("columns: translate calls its two columns --source and --target")


CONFIGS: dict[str, type[FinetuneConfig]] = {"embed": EmbedTuneConfig, "translate": TranslateConfig}
"""The settings of tasks that have others than those with a head."""


def resolve_finetune(task: str, settings: Mapping[str, Any]) -> FinetuneConfig:
    """Return the defaults of a task overridden by `settings`, checked as a whole; raises ConfigError."""
    kind = CONFIGS.get(task, FinetuneConfig)
    for other, config_of_other in CONFIGS.items():
        for section in settings.keys() & config_of_other.model_fields.keys() - kind.model_fields.keys():
            raise ConfigError(f"{section} holds settings of {other}; {task} has none of these, so leave them out")
    config = compose(kind, {"task": task, **settings})
    config.check()
    return config
