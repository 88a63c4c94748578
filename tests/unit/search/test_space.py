"""Spaces: defaults lie in them, what a call fixes is not drawn, and whatever is drawn is a setting that a run takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from bertwright.config import Between, OneOf, Range
from bertwright.model.config import BertConfig
from bertwright.nested import merge
from bertwright.search.space import distribution_of, settings_of, usual_of, without_fixed
from bertwright.search.trials import flat
from bertwright.tasks.by_name import TASKS, task_names
from bertwright.train.setup import pretrain_config
from bertwright.train.task_setup.finetune_config import resolve_finetune
from bertwright.train.task_setup.finetune_space import SPACE, SPACES, TRIED_FIRST
from bertwright.verbs.calls.tuning.pretrain_trials import PretrainTrials

SPACES_OF = {name: {**SPACES.get(name, SPACE), **(TASKS[name].space if name in TASKS else {})} for name in task_names()}

SHAPE = BertConfig(vocab_size=512, layers=6, hidden_size=384, heads=12, intermediate_size=1536)


def defaults_of(task: str) -> dict[str, Any]:
    config = resolve_finetune(task, {}).fitted(SHAPE, positions=512)
    return flat(config.model_dump(mode="json")) | {"transfer.dropout": 0.1}


@pytest.mark.parametrize("task", task_names())
def test_the_defaults_of_a_task_lie_in_its_space_and_stand_for_no_settings(task: str) -> None:
    space, defaults = SPACES_OF[task], defaults_of(task)
    assert set(space) <= set(defaults)
    usual = {name: usual_of(one, defaults[name]) for name, one in space.items()}
    assert settings_of(space, usual, defaults, layers=6) == {}
    study = optuna.create_study()
    study.enqueue_trial(usual)
    drawn = study.ask({name: distribution_of(one) for name, one in space.items()}).params
    assert drawn == usual


@pytest.mark.parametrize("task", task_names())
def test_whatever_is_drawn_is_a_run_that_finetune_takes(task: str) -> None:
    space, defaults = SPACES_OF[task], defaults_of(task)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        params = study.ask({name: distribution_of(one) for name, one in space.items()}).params
        config = resolve_finetune(task, settings_of(space, params, defaults, layers=6))
        assert config.optimizer.learning_rate > 0
        assert config.batches.rows in {defaults["batches.rows"] * factor for factor in (0.5, 1, 2)}


def test_what_is_tried_first_lies_in_the_spaces() -> None:
    for space, first in ((SPACE, TRIED_FIRST), (pretrain_config.SPACE, pretrain_config.TRIED_FIRST)):
        for params in first:
            assert set(params) <= set(space)
            for name, value in params.items():
                assert distribution_of(space[name])._contains(distribution_of(space[name]).to_internal_repr(value))


def test_what_a_call_fixes_is_not_searched() -> None:
    space: dict[str, Range] = {"size": OneOf(("a", "b")), "head.crf": OneOf((False, True)), "x.y": Between(0, 1)}
    assert list(without_fixed(space, {"x": {"z": 1}})) == ["size", "head.crf", "x.y"]
    assert list(without_fixed(space, {"x": {"y": 0.0}, "size": "a"})) == ["head.crf"]
    assert list(without_fixed(space, {"head": {"class_weights": "balanced"}})) == ["size", "x.y"]


def test_a_recipe_of_pretraining_takes_what_is_drawn(tmp_path: Path) -> None:
    config = pretrain_config.resolve("classic-fast", {"schedule": {"minutes": 1.0}})
    defaults = flat(config.model_dump(mode="json")) | {"schedule.rows": 32}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(10):
        params = study.ask({name: distribution_of(one) for name, one in pretrain_config.SPACE.items()}).params
        settings = settings_of(pretrain_config.SPACE, params, defaults, layers=0)
        drawn = pretrain_config.resolve("classic-fast", merge(settings, {"schedule": {"minutes": 1.0}}))
        assert {phase.rows for phase in drawn.schedule.phases} <= {16, 32, 64}
        assert drawn.size in ("tiny", "mini", "small")


def test_a_mask_rate_that_is_drawn_holds_in_a_recipe_with_rates_by_phase(tmp_path: Path) -> None:
    trials = PretrainTrials.__new__(PretrainTrials)
    trials.space = pretrain_config.SPACE
    trials.defaults = flat(pretrain_config.resolve("adapt", {"size": "mini"}).model_dump(mode="json"))
    settings = trials.settings({"objective.mask_rate": 0.4})
    objective = pretrain_config.resolve("adapt", merge(settings, {"size": "mini"})).objective
    assert (objective.mask_rate, objective.final_mask_rate, objective.mask_phases) == (0.4, None, ())
