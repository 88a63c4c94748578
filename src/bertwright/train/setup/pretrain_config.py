"""Turns a recipe's name and the flags of a call into one resolved tree of settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from bertwright.config import Section, compose, merge, read_toml, write_toml
from bertwright.configs.names import RECIPES
from bertwright.errors import ConfigError, ModelError
from bertwright.model.build import ARCHITECTURES
from bertwright.model.encoder_config import EncoderConfig
from bertwright.objectives.combine import needs_pairs
from bertwright.objectives.config import ObjectiveConfig
from bertwright.train.config import EngineConfig
from bertwright.train.ema import AverageConfig
from bertwright.train.loss_guard import GuardConfig
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.schedule import UNITS, ScheduleConfig


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
    """Share of the rows from each folder, the one of --data first; by their tokens where not given."""


class PretrainConfig(Section):
    """Everything a pre-training run is made of, resolved."""

    size: str = "mini"
    """tiny, mini, small, medium, base or large."""
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


def resolve(recipe: str, settings: Mapping[str, Any]) -> PretrainConfig:
    """Return a recipe (a name of RECIPES, or a TOML file) with `settings` laid over it, checked as a whole.

    A duration among `settings` replaces the recipe's, whatever its unit. Raises ConfigError.
    """
    return _checked(_read(recipe), settings)


def switched_off(recipe: str, settings: Mapping[str, Any]) -> str | None:
    """Return which of a recipe's settings `resolve` switches off for sentence pairs, as a sentence, or None.

    Pairs that `settings` ask for and rows filled or packed by the recipe alone exclude each other; what was asked for
    counts.
    """
    base = _read(recipe)
    off = _unfit_for_pairs(_composed(base, settings), settings)
    names = " and ".join(f"data.{name}" for name in off)
    return f"{names} {'are' if len(off) > 1 else 'is'} off: a sentence pair is a row of its own" if off else None


def _read(recipe: str) -> dict[str, Any]:
    if recipe not in RECIPES and not recipe.endswith(".toml"):
        raise ConfigError(f"no recipe is called {recipe!r}; give {', '.join(RECIPES)} or a file ending in .toml")
    return read_toml(RECIPES.get(recipe, Path(recipe)))


def resume_settings(run: Path, settings: Mapping[str, Any]) -> PretrainConfig:
    """Return the settings an earlier call left in RUN/config.toml, with `settings` laid over them."""
    if not (run / "config.toml").is_file():
        raise ModelError(f"there is no run to resume in {run} (no config.toml); start it without --resume")
    return _checked(read_toml(run / "config.toml"), settings)


def _composed(base: Mapping[str, Any], settings: Mapping[str, Any]) -> PretrainConfig:
    given = settings.get("schedule", {})
    if isinstance(given, Mapping) and any(unit in given for unit in UNITS):
        schedule = {name: value for name, value in base.get("schedule", {}).items() if name not in UNITS}
        base = {**base, "schedule": schedule}
    merged = merge(base, settings)
    schedule = merged.get("schedule", {})
    if isinstance(schedule, Mapping) and not any(unit in schedule for unit in UNITS):
        raise ConfigError(
            "nothing says how long to train: give --minutes, --steps, --tokens or --epochs, or one of them in the "
            "recipe's [schedule]"
        )
    return compose(PretrainConfig, merged)


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
    if config.size not in sizes:
        raise ConfigError(f"size: no size is called {config.size!r}; known: {', '.join(sizes)}")
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
                f"schedule.phases: length {phase.length} is past the model's {config.model.max_positions} positions; "
                "shorten the phase or raise --model.max-positions"
            )
        if phase.rows % config.engine.accumulation:
            raise ConfigError(
                f"schedule.phases: {phase.rows} rows do not divide into {config.engine.accumulation} micro-batches "
                "(engine.accumulation)"
            )
    return config
