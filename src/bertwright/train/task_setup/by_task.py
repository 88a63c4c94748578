"""Sets up a fine-tuning run: a decoder for translate, no head for embed, a head for every other task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from bertwright.device import pick_device, resolve_precision
from bertwright.hub.encoder_folder import read_config
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.finetune_config import FinetuneConfig
from bertwright.train.task_setup.head_setup import HeadSetup
from bertwright.train.task_setup.sentence_setup import SentenceSetup
from bertwright.train.task_setup.task_files import read_parallel_files, read_sentence_files, read_task_files
from bertwright.train.task_setup.translation_setup import TranslationSetup

SETUPS: dict[str, tuple[type[TaskSetup], Callable[..., Any]]] = {
    "embed": (SentenceSetup, read_sentence_files),
    "translate": (TranslationSetup, read_parallel_files),
}
"""Tasks without a head: what their seeds have in common, and what reads their files."""

S = TypeVar("S", bound=TaskSetup)
"""A setup of any kind."""


def set_up(config: FinetuneConfig, folder: Path, files: Mapping[str, Path]) -> TaskSetup:
    """Return the setup of a run: `files` are read and encoded, "train" first.

    Of the model in `folder` its config.json and tokenizer are read, and not its weights. Raises InputError where a file
    or the model is unfit, and ConfigError where settings are, such as the name of the figure a checkpoint is chosen by.
    """
    kind, read = SETUPS.get(config.task, (HeadSetup, read_task_files))
    tokenizer, encoder_config = load_tokenizer(folder), read_config(folder)
    config, prompt = kind.fitted(config, encoder_config, folder)
    task, examples, unlabelled = read(config, tokenizer, files)
    encoder, device = TextEncoder(tokenizer, max_length=config.batches.max_length, prompt=prompt), pick_device()
    setup: TaskSetup = kind(
        config=config,
        folder=folder,
        encoder_config=encoder_config,
        tokenizer=tokenizer,
        task=task,
        splits={name: task.encode(part, encoder) for name, part in examples.items()},
        unlabelled=unlabelled,
        device=device,
        precision=resolve_precision(config.precision, device),
    )
    setup.check()
    return setup.ready()


def with_examples(setup: S, examples: Mapping[str, Any]) -> S:
    """Return a setup whose splits are these examples, encoded; those that it has by the same name are replaced."""
    _, prompt = type(setup).fitted(setup.config, setup.encoder_config, setup.folder)
    encoder = TextEncoder(setup.tokenizer, max_length=setup.config.batches.max_length, prompt=prompt)
    encoded = {name: setup.task.encode(part, encoder) for name, part in examples.items()}
    return replace(setup, splits={**setup.splits, **encoded})


def with_config(setup: TaskSetup, config: FinetuneConfig, files: Mapping[str, Path]) -> TaskSetup:
    """Return a setup with other settings of rates, batches, epochs, transfer and head, over the same encoded rows.

    `files` are read again where the task depends on the settings that differ. Raises ConfigError.
    """
    kind, read = SETUPS.get(config.task, (HeadSetup, read_task_files))
    fitted, _ = kind.fitted(config, setup.encoder_config, setup.folder)
    task = setup.task if _same_task(setup.config, fitted) else read(fitted, setup.tokenizer, files)[0]
    changed = replace(setup, config=fitted, task=task)
    changed.check()
    return changed


def _same_task(before: FinetuneConfig, now: FinetuneConfig) -> bool:
    """Return whether a task made with some settings is that of others: what it reads of them is the same."""
    names = ("head", "options", "columns", "answer", "embed", "translate")
    return all(getattr(before, name, None) == getattr(now, name, None) for name in names)
