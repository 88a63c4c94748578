"""Turns a recipe's name and the flags of a call into one resolved tree of settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from bertwright.config import Section, compose, merge, read_toml
from bertwright.errors import ConfigError, ModelError
from bertwright.model.config import SIZES
from bertwright.objectives.combine import ObjectiveConfig
from bertwright.train.config import EngineConfig
from bertwright.train.optim import OptimizerConfig
from bertwright.train.schedule import UNITS, ScheduleConfig

RECIPES = {name: Path(__file__).with_name(f"{name}.toml") for name in ("classic", "classic-muon")}


class EncoderConfig(Section):
    """What of the model a run may set; its size and the vocabulary say the rest."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout on embeddings and sublayer outputs."""
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout on attention probabilities."""
    max_positions: int = Field(default=512, ge=8)
    """Longest sequence the model will ever read."""
    sinusoidal_start: bool = False
    """Start the learned position embeddings as sinusoids instead of noise: neighbours are found much sooner."""


class PretrainConfig(Section):
    """Everything a pre-training run is made of, resolved."""

    size: str = "mini"
    """One of the published sizes: tiny, mini, small, medium, base, large."""
    seed: int = Field(default=0, ge=0)
    """Seed of initialisation, data order, pairs, masks and dropout."""
    model: EncoderConfig = EncoderConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig
    engine: EngineConfig = EngineConfig()


def resolve(recipe: str, settings: Mapping[str, Any]) -> PretrainConfig:
    """Return a recipe (a name of RECIPES, or a TOML file) with `settings` laid over it, checked as a whole.

    A duration among `settings` replaces the recipe's, whatever its unit. Raises ConfigError.
    """
    if recipe not in RECIPES and not recipe.endswith(".toml"):
        raise ConfigError(f"no recipe is called {recipe!r}; give {', '.join(RECIPES)} or a file ending in .toml")
    return _checked(read_toml(RECIPES.get(recipe, Path(recipe))), settings)


def resume_settings(run: Path, settings: Mapping[str, Any]) -> PretrainConfig:
    """Return the settings an earlier call left in RUN/config.toml, with `settings` laid over them."""
    if not (run / "config.toml").is_file():
        raise ModelError(f"there is no run to resume in {run} (no config.toml); start it without --resume")
    return _checked(read_toml(run / "config.toml"), settings)


def _checked(base: Mapping[str, Any], settings: Mapping[str, Any]) -> PretrainConfig:
    given = settings.get("schedule", {})
    if isinstance(given, Mapping) and any(unit in given for unit in UNITS):
        schedule = {name: value for name, value in base.get("schedule", {}).items() if name not in UNITS}
        base = {**base, "schedule": schedule}
    config = compose(PretrainConfig, merge(base, settings))
    if config.size not in SIZES:
        raise ConfigError(f"size: no size is called {config.size!r}; known: {', '.join(SIZES)}")
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
