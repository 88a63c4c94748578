"""Turns the labelled files of a call into the task, the examples of each split, and the files without labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.base import Task, TrainFile
from bertwright.tasks.by_name import task_named
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.reader import Kind, Sentences, read_sentences
from bertwright.tasks.embedding.task import FIGURES, Embed
from bertwright.tasks.examples import split_dev
from bertwright.tasks.tagging.task import Tag
from bertwright.tasks.translation.reader import Parallel, SidesConfig, source_alone
from bertwright.tasks.translation.task import Translate
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.tokenizer.load import Tokenizer
from bertwright.train.task_setup.finetune_config import EmbedTuneConfig, FinetuneConfig, TranslateConfig

Files = Mapping[str, Path]
"""The files of a call by the name of their split, "train" first."""
Unlabelled = dict[str, UnlabelledFile]
DEV_FILES = "pairs (two columns of texts that belong together) or pairs with a score"


def read_task_files(
    config: FinetuneConfig, tokenizer: Tokenizer, files: Files
) -> tuple[Task[Any], dict[str, Any], Unlabelled]:
    """Return the task of a training file, the examples of each split, and the files without labels.

    Raises InputError with the reason where a file is unfit.
    """
    kind, fraction = task_named(config.task, config.head), config.dev_fraction_for(files)
    if config.columns.label_names and kind is not Tag:
        raise UsageError(f"--label-names is for tag; {kind.name} takes labels as the file has them")
    file = TrainFile(files["train"], config.columns, config.head, config.extra_config(kind), fraction)
    task, examples = kind.from_train_file(file)
    unlabelled: Unlabelled = {}
    for name, path in list(files.items())[1:]:
        without = task.unlabelled(path)
        if without is not None and name == "dev":
            raise CorpusError(
                f"{path} has no labels to choose a checkpoint by; leave --dev out, and a share of the training file is "
                "held out instead"
            )
        if without is not None:
            unlabelled[name] = without
        else:
            examples[name] = task.read(path)
    return task, examples, unlabelled


def read_parallel_files(
    config: TranslateConfig, tokenizer: Tokenizer, files: Files
) -> tuple[Translate, dict[str, Parallel], Unlabelled]:
    """Return the task of translation, the pairs of each split, and a test file of source texts alone."""
    writing = config.translate
    sides = SidesConfig(source=writing.source, target=writing.target, encoding=writing.encoding)
    task = Translate(tokenizer, sides, smoothing=writing.smoothing)
    source = source_alone(files["test"], sides) if "test" in files else None
    examples = {name: task.read(path) for name, path in files.items() if name != "test" or source is None}
    examples |= split_dev(examples["train"], config.dev_fraction_for(files))
    return task, examples, {} if source is None else {"test": source}


def read_sentence_files(
    config: EmbedTuneConfig, tokenizer: Tokenizer, files: Files
) -> tuple[Embed, dict[str, Sentences], Unlabelled]:
    """Return the task of sentence vectors, and the examples of each split.

    Those of train are what the objective says, those of dev and test what their own columns say.
    """
    embed, given = config.embed, config.columns
    if given.label_names:
        raise UsageError("--label-names is for tag; embed takes scores as they are written, so leave it out")
    wanted: Kind | None = None if embed.objective == "auto" else embed.objective
    train = read_sentences(files["train"], given, negative=embed.negative_column, kind=wanted)
    fraction = config.dev_fraction_for(files)
    if fraction is not None and train.kind == "texts":
        raise CorpusError(
            f"{files['train']} holds texts alone, of which none can be held out to evaluate on; give --dev {DEV_FILES}"
        )
    examples = split_dev(train, fraction)
    for name, part in examples.items():
        if fraction is not None and part.scores is not None and np.ptp(part.scores) == 0:
            raise CorpusError(
                f"{files['train']} has too few scores to divide: all of {name} would be the same; give --dev"
            )
    for name in (name for name in files if name != "train"):
        examples[name] = read_sentences(files[name], ColumnsConfig(encoding=given.encoding), kind=None)
        if examples[name].kind == "texts":
            raise CorpusError(
                f"{files[name]} holds texts alone, on which nothing can be evaluated; give {DEV_FILES} (vectors of "
                "texts alone: bertwright embed)"
            )
    for name, part in examples.items():
        if name != "train" and part.kind != examples["dev"].kind:
            other = files.get("dev", files["train"])
            raise CorpusError(
                f"{part.path} holds {part.kind} but {other} {examples['dev'].kind}; give files of one kind"
            )
    figures = FIGURES[examples["dev"].kind]
    if embed.hard_negatives and (train.kind != "pairs" or train.members.shape[1] > 2):
        has = "negatives of its own" if train.kind == "pairs" else f"{train.kind}, not pairs"
        raise CorpusError(f"{files['train']} holds {has}; mine hard negatives for pairs without them")
    dimensions = tuple(sorted(set(embed.dimensions), reverse=True))
    return Embed(train.kind, figures, embed.temperature, embed.symmetric, dimensions), examples, {}
