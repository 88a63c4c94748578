"""Turns a recipe's name and the flags of a call into one resolved tree of settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from bertwright.config import Between, OneOf, Range, Section, compose, write_toml
from bertwright.configs.names import RECIPES
from bertwright.errors import ConfigError, ModelError
from bertwright.model.build import ARCHITECTURES
from bertwright.model.config import ModelConfig
from bertwright.model.encoder_config import EncoderConfig
from bertwright.nested import merge, read_toml
from bertwright.objectives.combine import finds_replaced, needs_pairs
from bertwright.objectives.config import ObjectiveConfig
from bertwright.train.config import EngineConfig
from bertwright.train.ema import AverageConfig
from bertwright.train.loss_guard import GuardConfig
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.schedule import UNITS, ScheduleConfig

PHASE_FLAGS = {"rows": "--batch-size", "length": "--seq-length"}
"""What may stand in [schedule] for all phases at once, and the flag that sets it."""


SPACE: dict[str, Range] = {
    "size": OneOf(("tiny", "mini", "small")),
    "optimizer.learning_rate": Between(0.25, 4.0, log=True, times="default"),
    "optimizer.muon_learning_rate": Between(0.25, 4.0, log=True, times="default"),
    "schedule.rows": OneOf((0.5, 1.0, 2.0), times="default"),
    "schedule.warmup": Between(0.01, 0.2, log=True),
    "objective.mask_rate": Between(0.1, 0.4),
}
"""What `bertwright tune pretrain` searches."""
TRIED_FIRST: tuple[dict[str, Any], ...] = (
    {"size": "tiny"},
    {"optimizer.learning_rate": 2.0, "optimizer.muon_learning_rate": 2.0},
    {"schedule.rows": 0.5},
)
"""What it tries after the defaults, from which these differ."""


class DataConfig(Section):
    """How rows are cut from the corpus."""

    fill_rows: bool = False
    """Fill rows to their last token, cutting the sentence that stands there, but for the first and last row of a
    document; without sentence pairs alone."""
    pack: bool = False
    """Put several documents into a row, each with its own [CLS] and [SEP] and seen by its own tokens alone, so that
    short ones leave next to no padding; without sentence pairs alone. A sentence that fits a row is never cut, unless
    fill_rows is set too: then documents are cut where rows would stay short otherwise."""
    others: tuple[str, ...] = ()
    """Further DATA folders whose rows are mixed in, made with the same tokenizer; --data given again is the same."""
    mixture: tuple[float, ...] = ()
    """Share of the rows from each folder, the one of --data first; by replay where not given, or by their tokens."""
    replay: float | None = Field(default=None, gt=0, lt=1)
    """Fraction of the rows that the folders after the first give together, in equal parts, where mixture is not given:
    general text, from which a model that goes on to a domain forgets less."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the rows from each folder; empty where they go by their tokens."""
        if self.mixture or self.replay is None or not self.others:
            return self.mixture
        return (1 - self.replay, *(self.replay / len(self.others) for _ in self.others))


class StartConfig(Section):
    """The model that a run goes on from: what it is, not where it lies; --init-from MODEL fills this in."""

    model_type: str
    """As in its config.json."""
    sha256: str
    """Of its weights: of their file, or of several in their order."""
    shape: dict[str, Any]
    """Its shape: settings of the architecture."""
    new_vocabulary: bool = False
    """Whether the data have another vocabulary, which knows that of the model."""


class PretrainConfig(Section):
    """Everything a pre-training run is made of, resolved."""

    size: str = "mini"
    """tiny, mini, small, medium, base or large; of a run with [start] what that says."""
    seed: int = Field(default=0, ge=0)
    """Seed of initialisation, data order, pairs, masks and dropout."""
    model: EncoderConfig = EncoderConfig()
    data: DataConfig = DataConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig
    average: AverageConfig = AverageConfig()
    guard: GuardConfig = GuardConfig()
    engine: EngineConfig = EngineConfig()
    start: StartConfig | None = None
    """The model that the run goes on from; none where it begins with a new one."""

    def shape(self, *, vocab_size: int, pad_token_id: int) -> ModelConfig:
        """Return the shape of the model: as settings say, or that of the model the run goes on from.

        `vocab_size` and `pad_token_id` are those of the data. Raises ConfigError where settings fit no shape.
        """
        pairs = needs_pairs(self.objective)
        if self.start is None:
            return self.model.shape(
                self.size,
                vocab_size=vocab_size,
                pad_token_id=pad_token_id,
                next_sentence=pairs,
                discriminator=finds_replaced(self.objective),
            )
        rows = {"vocab_size": vocab_size, "pad_token_id": pad_token_id} if self.start.new_vocabulary else {}
        return self.model.shape_from(self.start.shape | rows, next_sentence=pairs)

    def folders(self, data: Path) -> list[Path]:
        """Return the DATA folders of a run: the one it was called with, and those mixed in."""
        return [data, *(Path(folder) for folder in self.data.others)]


def resolve(recipe: str, settings: Mapping[str, Any]) -> PretrainConfig:
    """Return a recipe (a name of RECIPES, or a TOML file) overridden by `settings`, checked as a whole.

    A duration among `settings` replaces the recipe's, whatever its unit. Raises ConfigError.
    """
    return _checked(_read(recipe), settings)


def switched_off(recipe: str, settings: Mapping[str, Any]) -> str | None:
    """Return which of a recipe's settings `resolve` switches off for sentence pairs, as a sentence, or None.

    Pairs that `settings` ask for and rows filled or packed by the recipe alone exclude each other; `settings`
    count.
    """
    base = _read(recipe)
    off = _unfit_for_pairs(_composed(base, settings), settings)
    names = " and ".join(f"data.{name}" for name in off)
    return f"{names} {'are' if len(off) > 1 else 'is'} off: a sentence pair is a row of its own" if off else None


def _read(recipe: str, *, beside: Path = Path(), readers: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the settings of a recipe, overriding those of the one that it `extends`, a name or a file beside it."""
    if recipe not in RECIPES and not recipe.endswith(".toml"):
        raise ConfigError(f"no recipe is called {recipe!r}; give {', '.join(RECIPES)} or a file ending in .toml")
    file = RECIPES.get(recipe, beside / recipe)
    if file.resolve() in readers:
        raise ConfigError(f"{file} extends itself, through {len(readers)} files; let one of them extend another recipe")
    settings = read_toml(file)
    base = settings.pop("extends", None)
    if base is None:
        return _with_one_phase(settings)
    if not isinstance(base, str):
        raise ConfigError(f"{file}: extends must be the name of a recipe or a .toml file (given: {base!r})")
    return _laid_over(_read(base, beside=file.parent, readers=(*readers, file.resolve())), settings)


def _laid_over(base: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return `settings` over those of a recipe; a duration among them replaces the recipe's, whatever its unit."""
    given = settings.get("schedule", {})
    if isinstance(given, Mapping) and any(unit in given for unit in UNITS):
        schedule = {name: value for name, value in base.get("schedule", {}).items() if name not in UNITS}
        base = {**base, "schedule": schedule}
    return _with_one_phase(merge(base, settings))


def resume_settings(run: Path, settings: Mapping[str, Any]) -> PretrainConfig:
    """Return the settings an earlier call left in RUN/config.toml, overridden by `settings`."""
    if not (run / "config.toml").is_file():
        raise ModelError(f"there is no run to resume in {run} (no config.toml); start it without --resume")
    return _checked(read_toml(run / "config.toml"), settings)


def _composed(base: Mapping[str, Any], settings: Mapping[str, Any]) -> PretrainConfig:
    merged = _laid_over(base, settings)
    schedule = merged.get("schedule", {})
    if isinstance(schedule, Mapping) and not any(unit in schedule for unit in UNITS):
        raise ConfigError(
            "nothing says how long to train: give --minutes, --steps, --tokens or --epochs, or one of them in the "
            "recipe's [schedule]"
        )
    return compose(PretrainConfig, merged)


def _with_one_phase(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings whose schedule.rows and schedule.length, if given, stand in every phase of the schedule.

    Raises ConfigError where phases differ there: one number cannot be that of all.
    """
    schedule = settings.get("schedule")
    over = {name: schedule[name] for name in PHASE_FLAGS if name in schedule} if isinstance(schedule, Mapping) else {}
    if not over or not isinstance(schedule, Mapping):
        return dict(settings)
    usual = [phase.model_dump() for phase in ScheduleConfig.model_fields["phases"].default]
    phases = schedule.get("phases", usual)
    for name in over if isinstance(phases, (list, tuple)) else ():
        values = list(dict.fromkeys(phase.get(name) for phase in phases if isinstance(phase, Mapping)))
        if len(values) > 1:
            what = f"{' and '.join(map(str, values))} {'rows a step' if name == 'rows' else 'tokens a row'}"
            raise ConfigError(
                f"{PHASE_FLAGS[name]} {over[name]}: the phases of this recipe have {what}, and one number cannot be "
                f"that of all; give --schedule.phases '[{{length = 128, rows = 32, share = 1.0}}]', with your numbers"
            )
        phases = [{**phase, name: over[name]} if isinstance(phase, Mapping) else phase for phase in phases]
    rest = {name: value for name, value in schedule.items() if name not in over}
    return {**settings, "schedule": {**rest, "phases": phases}}


def _require_replaced(config: PretrainConfig) -> None:
    """Raise ConfigError where a model that finds replaced tokens cannot be trained with these settings."""
    if config.start is not None:
        raise ConfigError(
            "objective.names: rtd trains two models and MODEL holds one; leave out --init-from, or go on with mlm"
        )
    if "discriminator" not in ARCHITECTURES[config.model.architecture].config_type.model_fields:
        raise ConfigError(
            f"objective.names: transformers has no class for a {config.model.architecture} that finds replaced tokens; "
            "give --model.architecture electra (and --model.init noise, where the recipe has another)"
        )
    if any(phase.causal for phase in config.schedule.phases):
        raise ConfigError(
            "schedule.phases: a model that finds replaced tokens has no head for next tokens; leave out causal"
        )
    if config.engine.parallel == "fsdp":
        raise ConfigError(
            "engine.parallel fsdp: the generator of rtd shares its embeddings with the model, and sharding would part "
            "them; give --engine.parallel ddp"
        )


def _unfit_for_pairs(config: PretrainConfig, settings: Mapping[str, Any]) -> list[str]:
    """Return the fields of `data` that the recipe alone sets and that exclude the pairs which `settings` ask for."""
    if not needs_pairs(config.objective) or not {"next_sentence", "names"} & set(settings.get("objective", {})):
        return []
    given = settings.get("data", {})
    return [name for name in ("fill_rows", "pack") if getattr(config.data, name) and name not in given]


def keep_found(run: Path, **engine: Any) -> None:
    """Write settings of the engine that a run has found itself into its config.toml, for its later starts."""
    write_toml(run / "config.toml", resume_settings(run, {"engine": engine}))


def _checked(base: Mapping[str, Any], settings: Mapping[str, Any]) -> PretrainConfig:
    config = _composed(base, settings)
    if off := _unfit_for_pairs(config, settings):
        config = _composed(base, merge(settings, {"data": dict.fromkeys(off, False)}))
    sizes = ARCHITECTURES[config.model.architecture].config_type.sizes
    if config.start is None and config.size not in sizes:
        raise ConfigError(f"size: no size is called {config.size!r}; known: {', '.join(sizes)}")
    if config.start is None and config.model.new_vectors != "mean":
        raise ConfigError(
            f"model.new_vectors {config.model.new_vectors}: a new model has no old vectors to begin with; give "
            "--init-from MODEL too, or leave it out"
        )
    config.shape(vocab_size=1, pad_token_id=0)
    if finds_replaced(config.objective):
        _require_replaced(config)
    if config.data.pack and needs_pairs(config.objective):
        raise ConfigError(
            "data.pack: a sentence pair is a row of its own; give --objective.next-sentence false, or --data.pack false"
        )
    if config.data.fill_rows and needs_pairs(config.objective):
        raise ConfigError(
            "data.fill_rows: sentence pairs end where their sentences end; give --objective.next-sentence false, "
            "or --data.fill-rows false"
        )
    if config.data.mixture and len(config.data.mixture) != 1 + len(config.data.others):
        raise ConfigError(
            f"data.mixture: {len(config.data.mixture)} shares for {1 + len(config.data.others)} DATA folders; "
            "give one of each, in their order"
        )
    for phase in config.schedule.phases:
        if phase.length > config.model.max_positions:
            raise ConfigError(
                f"schedule.phases: length {phase.length} (--seq-length) is past the model's "
                f"{config.model.max_positions} positions; shorten the phase"
                + (" or raise --model.max-positions" if config.start is None else "")
            )
        if phase.rows % config.engine.accumulation:
            raise ConfigError(
                f"schedule.phases: {phase.rows} rows do not divide into {config.engine.accumulation} micro-batches "
                "(engine.accumulation)"
            )
    return config
