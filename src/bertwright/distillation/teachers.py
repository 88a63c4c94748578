"""Turns folders of fine-tuned models into teachers of a task: checked, and asked about every row, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import ModelError
from bertwright.files import human_bytes, read_json, write_json, written_aside
from bertwright.hub.task_folder import FineTunedFolder
from bertwright.inference.batching import BatchPolicy, logits_of
from bertwright.inference.predictors import task_of
from bertwright.inference.scoring import CPU_TOKENS, Cast, task_forward
from bertwright.log import count_progress, note
from bertwright.tasks.base import Task
from bertwright.tasks.classification.long_texts import ClassifyLong
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

CHUNK = 4096
"""Rows a teacher is asked about before progress is shown."""
SCORES, KEPT = "logits.npy", "logits.json"
"""What teachers answered, and about what."""


@dataclass(frozen=True)
class Teacher:
    """A fine-tuned model whose answers a student learns.

    order        the column of its logits for each label of the task
    same_tokens  whether it reads the student's tokens; where not, its answers alone can be learned
    """

    folder: Path
    opened: FineTunedFolder
    tokenizer: Tokenizer
    order: np.ndarray
    same_tokens: bool

    @property
    def max_length(self) -> int:
        """Tokens of the longest row it reads."""
        return self.opened.max_length


def teacher_of(folder: Path, opened: FineTunedFolder, task: Task[Any], tokenizer: Tokenizer) -> Teacher:
    """Return the model of a folder as a teacher of `task`, for a student that reads by `tokenizer`.

    Raises ModelError where it is none.
    """
    theirs = task_of(opened)
    if type(theirs) is not type(task):
        other = "with another kind of head" if theirs.name == task.name else f"for {theirs.name}"
        raise ModelError(f"{folder} is a model {other}, not for {task.name} as asked; give a teacher of that task")
    if isinstance(theirs, ClassifyLong):
        raise ModelError(f"{folder} reads long texts in windows, which distill does not; give a teacher of single rows")
    if opened.model.crf is not None:
        raise ModelError(f"{folder} decides by a CRF, not by the logits of single words; give a teacher without one")
    missing = [label for label in task.labels if label not in opened.labels]
    if missing or len(opened.labels) != len(task.labels):
        raise ModelError(
            f"{folder} knows the labels {', '.join(opened.labels[:12])} and the examples have "
            f"{', '.join(task.labels[:12])}; give a teacher of the same labels"
        )
    own = load_tokenizer(folder)
    order = np.array([opened.labels.index(label) for label in task.labels])
    return Teacher(folder, opened, own, order, same_tokens(own, tokenizer))


def same_tokens(first: Tokenizer, second: Tokenizer) -> bool:
    """Say whether two tokenizers turn a text into the same ids."""
    same = first.tokens == second.tokens and first.special == second.special
    return same and _rules(first) == _rules(second)


def _rules(tokenizer: Tokenizer) -> list[str]:
    """Return how a tokenizer cleans and cuts a text, as texts."""
    backend = tokenizer.backend
    return [str(getattr(backend, part)) for part in ("normalizer", "pre_tokenizer")]


def ask(
    teacher: Teacher, task: Task[Any], examples: Sequence[Any], rows: LabelledRows, *, max_length: int,
    device: torch.device, cast: Cast,
) -> np.ndarray:  # fmt: skip
    """Return logits [Q, K] float32 of a teacher for examples of a task, in the order of the labels of the task.

    `rows` are the examples as the student reads them, one after the other; a teacher of another tokenizer reads them
    by its own.
    """
    if not teacher.same_tokens:
        encoder = TextEncoder(teacher.tokenizer, max_length=min(max_length, teacher.max_length))
        parts = [task.encode(one, encoder).rows for one in examples]
    else:
        parts = [rows]
    found = [_logits(teacher, one, device=device, cast=cast) for one in parts]
    return np.concatenate(found)[:, teacher.order]


def _logits(teacher: Teacher, rows: LabelledRows, *, device: torch.device, cast: Cast) -> np.ndarray:
    model = teacher.opened.model.to(device)
    policy = BatchPolicy() if device.type == "cuda" else BatchPolicy(tokens=CPU_TOKENS)
    forward, into = task_forward(model, device=device, cast=cast), None
    order = np.argsort(rows.lengths, kind="stable")
    with count_progress("rows answered by the teacher", total=len(rows)) as done:
        for begin in range(0, len(rows), CHUNK):
            places = order[begin : begin + CHUNK]
            into = logits_of(forward, rows, policy=policy, into=into, places=places)
            done(len(places))
    assert into is not None
    return into


def kept_answers(folder: Path, identity: Any, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return logits [Q, K] kept in `folder`, read from disk as they are needed; computed first where they are others.

    `identity` says of which teachers and rows they are.
    """
    if not (folder / KEPT).is_file() or read_json(folder / KEPT) != identity:
        answers = compute()
        with written_aside(folder) as aside:
            aside.mkdir()
            np.save(aside / SCORES, answers.astype(np.float32))
            write_json(aside / KEPT, identity)
        note(f"the teacher's answers take {human_bytes(answers.size * 4)}, in {folder} until the run is done")
    return np.lib.format.open_memmap(folder / SCORES, mode="r")
