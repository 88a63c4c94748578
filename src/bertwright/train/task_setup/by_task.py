"""Names how each task is set up: a decoder for translate, no head for embed, a head for every other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.finetune_config import FinetuneConfig
from bertwright.train.task_setup.head_setup import HeadSetup
from bertwright.train.task_setup.sentence_setup import SentenceSetup
from bertwright.train.task_setup.translation_setup import TranslationSetup

SETUPS: dict[str, type[TaskSetup]] = {"embed": SentenceSetup, "translate": TranslationSetup}
"""Tasks without a head."""


def set_up(config: FinetuneConfig, folder: Path, files: Mapping[str, Path]) -> TaskSetup:
    """Return the setup of a run: files read and encoded, "train" first; raises InputError where one is unfit.

    Also raises ConfigError where the task has no figure of the name the checkpoint is to be chosen by.
    """
    setup = SETUPS.get(config.task, HeadSetup).of_files(config, folder, files)
    _ = setup.metric
    return setup
