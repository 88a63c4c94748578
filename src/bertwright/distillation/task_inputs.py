"""Turns the models and files of a call into the setup of a run in which a student learns a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.data.labelled.dev_split import key_hashes
from bertwright.device import pick_device, resolve_precision
from bertwright.distillation.config import DistillConfig
from bertwright.distillation.distilled_task import DistilledSetup
from bertwright.distillation.student import check_start, student_shape
from bertwright.distillation.taught_rows import TaughtRows
from bertwright.distillation.teachers import Teacher, teacher_of
from bertwright.distillation.traces import matched_layers
from bertwright.errors import ConfigError, CorpusError, ModelError, UsageError
from bertwright.hub.encoder_folder import read_config
from bertwright.hub.task_folder import FineTunedFolder, read_fine_tuned
from bertwright.inference.predictors import task_of
from bertwright.inference.questions import InputFile, task_questions
from bertwright.log import note
from bertwright.model.config import ModelConfig
from bertwright.tasks.base import Task
from bertwright.tasks.by_name import TASKS
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.examples import EncodedExamples, Examples
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.task_setup.finetune_config import FinetuneConfig
from bertwright.train.task_setup.task_files import read_task_files


@dataclass(frozen=True)
class DistillInputs:
    """What a call names.

    teachers  MODEL folders
    student   MODEL folder the student comes from; None where it is made from the first teacher
    files     labelled files by split: train, dev, test
    texts     files without labels
    """

    teachers: tuple[Path, ...]
    student: Path | None
    files: Mapping[str, Path]
    texts: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """The model the student comes from."""
        return self.student or self.teachers[0]


def set_up_distilled(config: FinetuneConfig, distill: DistillConfig, inputs: DistillInputs) -> DistilledSetup:
    """Return the setup of a run: teachers are read and checked, files read and encoded.

    Raises InputError where a file or model is unfit, and ConfigError where settings are.
    """
    refuse_unused(config)
    shape, taken = shape_of_student(distill, inputs)
    tokenizer = load_tokenizer(inputs.folder)
    config, prompt = DistilledSetup.fitted(config, shape, inputs.folder)
    opened = [read_fine_tuned(folder) for folder in inputs.teachers]
    task, examples, unlabelled = read_examples(config, inputs, opened[0])
    teachers = tuple(
        teacher_of(folder, one, task, tokenizer) for folder, one in zip(inputs.teachers, opened, strict=True)
    )  # fmt: skip
    require_same_tokens(distill, task, teachers)
    if inputs.student is None:
        check_start(distill.student, shape, teachers[0].opened.model.encoder)
    encoder, device = TextEncoder(tokenizer, max_length=config.batches.max_length, prompt=prompt), pick_device()
    texts = read_texts(inputs.texts, task, config.columns, known=[examples[name] for name in examples])
    splits = {name: task.encode(part, encoder) for name, part in examples.items()}
    rows = None if texts is None else task.encode(texts, encoder).rows
    if "train" in splits:
        train = EncodedExamples(splits["train"].examples, TaughtRows.of(splits["train"].rows, unlabelled=rows))
    else:
        assert texts is not None
        assert rows is not None
        train = EncodedExamples(texts, TaughtRows.of(rows, labelled=False))
        texts = None
    setup = DistilledSetup(
        config=config,
        folder=inputs.folder,
        encoder_config=shape,
        tokenizer=tokenizer,
        task=task,
        splits={**splits, "train": train},
        unlabelled=unlabelled,
        device=device,
        precision=resolve_precision(config.precision, device),
        distill=distill,
        teachers=teachers,
        taken=taken,
        student=inputs.student is not None,
        texts=texts,
    )
    setup.check()
    return setup


def refuse_unused(config: FinetuneConfig) -> None:
    """Raise ConfigError where settings ask for what a student does not learn by."""
    head, transfer = config.head, config.transfer
    asked = {
        "head.crf": head.crf,
        "head.windows": head.windows,
        "transfer.r_drop": transfer.r_drop,
        "transfer.few_shot": transfer.few_shot,
        "split.folds": config.split.folds,
    }
    odd = next((name for name, value in asked.items() if value), None)
    if odd is not None:
        raise ConfigError(f"{odd}: a student learns a teacher's answers row by row, without it; leave it out")


def shape_of_student(distill: DistillConfig, inputs: DistillInputs) -> tuple[ModelConfig, tuple[int, ...]]:
    """Return the shape of the student, and the block of the first teacher that each of its blocks stands for."""
    teacher = read_config(inputs.teachers[0])
    if inputs.student is None:
        return student_shape(distill.student, teacher)
    given = [name for name in ("layers", "width", "heads") if getattr(distill.student, name) is not None]
    if given:
        raise UsageError(f"--student has a shape of its own; leave --{given[0]} out, or --student")
    shape = read_config(inputs.student)
    if type(shape) is not type(teacher) and distill.weights.reads_states:
        raise ModelError(
            f"{inputs.student} is of another architecture than {inputs.teachers[0]}, whose states it cannot learn; "
            "give --hidden 0 --relations 0 --attention 0"
        )
    return shape, matched_layers(shape.layers, teacher.layers)


def read_examples(
    config: FinetuneConfig, inputs: DistillInputs, teacher: FineTunedFolder
) -> tuple[Task[Any], dict[str, Any], dict[str, UnlabelledFile]]:
    """Return the task, the examples of each split, and a test file without labels.

    Without a training file the labels are those of the first `teacher`. Raises InputError with the reason.
    """
    files = inputs.files
    if "train" in files:
        return read_task_files(config, load_tokenizer(inputs.folder), files)
    if not inputs.texts:
        raise UsageError("there is nothing to learn from; give --train FILE, --text FILE, or both")
    if "dev" not in files:
        raise UsageError("without --train nothing can be held out to choose a checkpoint by; give --dev FILE")
    task = task_of(teacher).with_columns(files["dev"], config.columns)
    if task.name != config.task:
        raise ModelError(f"{inputs.teachers[0]} is a model for {task.name}, not for {config.task}")
    return task, {name: task.read(path) for name, path in files.items()}, {}


def require_same_tokens(distill: DistillConfig, task: Task[Any], teachers: Sequence[Teacher]) -> None:
    """Raise ModelError where something is to be learned token by token from a teacher of other tokens."""
    for place, teacher in enumerate(teachers):
        states = place == 0 and distill.weights.reads_states
        if not teacher.same_tokens and (states or task.head_type == "span"):
            what = "hidden states, relations and attention" if states else "answers to questions"
            raise ModelError(
                f"{teacher.folder} has another tokenizer than the student, so its {what} are those of other tokens; "
                "give a teacher of the same tokenizer"
            )
        if not teacher.same_tokens:
            note(f"{teacher.folder} has another tokenizer than the student: it reads the same texts by its own")


def read_texts(
    files: Sequence[Path], task: Task[Any], columns: ColumnsConfig, *, known: Sequence[Examples]
) -> Any | None:
    """Return the texts of files without labels as examples of a task; None where there are none.

    Those that stand in train, dev or test are left out, and noted.
    """
    if not files:
        return None
    questions: list[tuple[str, ...]] = []
    for file in files:
        given = ColumnsConfig(encoding=columns.encoding)
        stream = InputFile(file, head_type=task.head_type, pairs=task.pairs, columns=given)
        asked = task_questions((), pair=False, located=stream, head_type=task.head_type, pairs=task.pairs)
        questions += [one for one in asked if any(part.strip() for part in one)]
    if not questions:
        raise CorpusError(f"{', '.join(map(str, files))} hold no text; give files of texts")
    examples = task.from_questions(questions)
    seen = np.concatenate([key_hashes(one.keys()) for one in known])
    fresh = np.flatnonzero(~np.isin(key_hashes(examples.keys()), seen))
    left_out = len(examples) - len(fresh)
    if left_out:
        note(f"{left_out:,} of {len(examples):,} texts without labels stand in the labelled files and are left out")
    if not len(fresh):
        raise CorpusError(f"every text of {', '.join(map(str, files))} stands in the labelled files; give others")
    return examples.take(fresh)


def require_task(task: str) -> None:
    """Raise UsageError where a task has no logits to learn."""
    if task not in TASKS:
        raise UsageError(f"distill knows no {task!r}; give pretrain, or a task with logits: {', '.join(TASKS)}")
