"""Asks a fine-tuned model what its head is for: the class of a text, its score, or the entities in it.

torch is imported by what opens a model, so that answers of an exported one are printed without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import CorpusError, UsageError
from bertwright.log import note, print_facts, print_table
from bertwright.tasks.base import Task
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.classification.whole_texts import WholeTexts
from bertwright.tasks.columns import LABELS, SCORES, ColumnsConfig
from bertwright.tasks.metrics import figure_names
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.trained import TASK, task_of_head
from bertwright.tasks.unlabelled import no_labels, refuse_unlabelled
from bertwright.tokenizer.load import load_tokenizer

if TYPE_CHECKING:
    from bertwright.device import Precision
    from bertwright.hub.task_folder import FineTunedFolder
    from bertwright.inference.bf16_rescoring import Lead

LONGEST_CELL = 80
ASKED = ("text", "first", "second", "question", "context")
"""What of an answer says what was asked."""
"""Characters of a text shown in a table."""


def task_of(folder: FineTunedFolder) -> Task[Any]:
    """Return the task a fine-tuned model was trained for."""
    return task_of_head(folder.model.head_type, folder.problem, folder.labels, folder.extra_config).with_crf(
        folder.model
    )


def open_task(
    folder: Path, *, precision: Precision = "auto"
) -> tuple[Task[Any], Callable[[Sequence[tuple[str, ...]]], list[dict[str, Any]]]]:
    """Return the task of a folder and what answers its questions, in order; raises ModelError where it is not whole.

    Classify gives label, probability and probabilities (labels and probabilities, where a text may have several);
    regress a score; tag entities with type, text, the characters they stand at and probability; answer the same of a
    span of the context; choose the likeliest choice. Texts past the model's positions are cut (split, for tag and
    answer), and a note says so.
    """
    from bertwright.device import pick_device
    from bertwright.hub.task_folder import read_fine_tuned
    from bertwright.inference.bf16_rescoring import Bf16Rescorer

    opened = read_fine_tuned(folder)
    score = Bf16Rescorer(opened.model, device=pick_device(), margin=lead_of(opened), precision=precision)
    encoder = TextEncoder(load_tokenizer(folder), max_length=opened.max_length)
    task = task_of(opened)
    return task, answers_with(task, encoder, score)


def answers_with(
    task: Task[Any], encoder: TextEncoder, score: Callable[[LabelledRows], np.ndarray]
) -> Callable[[Sequence[tuple[str, ...]]], list[dict[str, Any]]]:
    """Return the function that answers questions of a task by the logits that `score` gives of rows."""

    def answer(questions: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
        examples = task.ask(questions)
        return task.answers(score(task.encode(examples, encoder)), examples)

    return answer


def lead_of(folder: FineTunedFolder) -> Lead | None:
    """Return how far an answer of a model is from another one; None where that is no matter of single logits."""
    from bertwright.inference.bf16_rescoring import lead_of_class, lead_of_labels

    if folder.model.head_type in ("choice", "span") or folder.model.crf is not None or TASK in folder.extra_config:
        return None
    leads: dict[str, Lead] = {
        "single_label_classification": lead_of_class,
        "multi_label_classification": lead_of_labels,
    }
    return leads.get(folder.problem)


def evaluate_task(
    kind: str, folder: Path, file: Path, columns: ColumnsConfig, *, positive: str | None = None
) -> dict[str, float]:
    """Return the figures of a fine-tuned model on a labelled file, in float32, and print them.

    `positive` is the class of two whose F1 is reported. Raises UsageError where the model was trained for another task
    than `kind`, and InputError as `finetune` does.
    """
    from bertwright.hub.task_folder import read_fine_tuned

    opened = read_fine_tuned(folder)
    task = task_of(opened)
    if task.name != kind:
        raise UsageError(f"{folder} was trained to {task.name}, not to {kind}; evaluate {task.name} instead")
    if positive is not None:
        task = with_positive(task, positive)
    refuse_without_labels(task, file, columns, model=folder)
    task = task.with_columns(file, columns)
    examples = task.read(file)
    judged = task.judge(_logits(folder, opened, task, examples), examples)
    names = figure_names(judged.figures, positive=task.positive)
    print_facts(f"{folder} on {file}", {shown: f"{judged.figures[name]:.4f}" for name, shown in names.items()})
    if judged.grid is not None:
        print_table(judged.grid.title, judged.grid.header, judged.grid.rows)
    if judged.warning:
        note(judged.warning)
    return judged.figures


def refuse_without_labels(task: Task[Any], file: Path, columns: ColumnsConfig, *, model: Path) -> None:
    """Raise CorpusError where there is nothing in a file to compare answers with, naming the way to predict it."""
    if isinstance(task, WholeTexts):
        refuse_unlabelled(file, columns, targets=SCORES if task.problem == "regression" else LABELS, model=model)
    elif task.with_columns(file, columns).unlabelled(file) is not None:
        raise CorpusError(no_labels(file, model))


def with_positive(task: Task[Any], name: str) -> Task[Any]:
    """Return a task whose F1 is that of the class `name`; raises UsageError where it has no such figure."""
    if not isinstance(task, Classify):
        raise UsageError("--positive is for classify of two classes, one label a text; leave it out")
    return task.with_positive(name)


def _logits(folder: Path, opened: FineTunedFolder, task: Task[Any], examples: Any) -> np.ndarray:
    """Return the logits [Q, outputs] of everything that is asked in `examples`, in float32."""
    from bertwright.device import pick_device
    from bertwright.inference.scoring import score_rows

    device = pick_device()
    encoder = TextEncoder(load_tokenizer(folder), max_length=opened.max_length)
    return score_rows(opened.model.to(device), task.encode(examples, encoder), device=device)


def print_task_answers(answers: Sequence[dict[str, Any]]) -> None:
    """Print answers as a table: a row a text, or for tag a row an entity or word."""
    header, rows = ["text"], [[_text(line)] for line in answers]
    if "answer" in answers[0]:
        header = ["question", "answer", "characters", "probability"]
        rows = [_answer_row(line) for line in answers]
    elif "choice" in answers[0]:
        header += ["choice", "probability"]
        rows = [[_text(line), _short(line["choice"]), f"{line['probability']:.1%}"] for line in answers]
    elif "label" in answers[0]:
        header += ["label", "probability"]
        rows = [[_text(line), line["label"], f"{line['probability']:.1%}"] for line in answers]
    elif "labels" in answers[0]:
        header += ["labels", "probabilities"]
        rows = [[_text(line), *_labels(line)] for line in answers]
    elif "score" in answers[0]:
        header.append("score")
        rows = [[_text(line), f"{line['score']:.3f}"] for line in answers]
    elif "similarity" in answers[0]:
        header.append("cosine")
        rows = [[_text(line), f"{line['similarity']:.3f}"] for line in answers]
    elif "entities" in answers[0]:
        header += ["entity", "type", "characters", "probability"]
        rows = [row for line in answers for row in _entity_rows(line)]
    elif "tags" in answers[0]:
        header = ["word", "tag", "probability"]
        rows = [[one["word"], one["tag"], f"{one['probability']:.1%}"] for line in answers for one in line["tags"]]
    else:
        others = [name for name in answers[0] if name not in ASKED]
        header += others
        rows = [[_text(line), *(_short(str(line[name])) for name in others)] for line in answers]
    print_table("answers", header, rows)


def _labels(line: dict[str, Any]) -> tuple[str, str]:
    given = line["labels"]
    return ", ".join(given) or "none", ", ".join(f"{line['probabilities'][label]:.1%}" for label in given)


def _entity_rows(line: dict[str, Any]) -> list[list[str]]:
    if not line["entities"]:
        return [[_text(line), "none", "", "", ""]]
    return [
        [_text(line), one["text"], one["type"], f"{one['start']}-{one['end']}", f"{one['probability']:.1%}"]
        for one in line["entities"]
    ]


def _answer_row(line: dict[str, Any]) -> list[str]:
    where = f"{line['start']}-{line['end']}" if line["answer"] else ""
    return [_text(line), _short(line["answer"]) or "none", where, f"{line['probability']:.1%}"]


def _text(line: dict[str, Any]) -> str:
    alone = next((line[name] for name in ("text", "question", "context") if name in line), None)
    return _short(f"{line['first']} | {line['second']}" if alone is None else alone)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 3]}..."
