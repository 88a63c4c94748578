"""Turns a fine-tuned model into the Hugging Face folder of its class, labels named, and back.

What is written loads in stock transformers as BertForSequenceClassification, BertForMultipleChoice,
BertForTokenClassification, BertForQuestionAnswering or ModernBERT's classes of those names; what is read may have been
saved by transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from bertwright.errors import ModelError
from bertwright.hub.crf_file import CRF, chain_arrays, read_chain
from bertwright.hub.encoder_folder import read_model, their_tensors, write_folder
from bertwright.hub.mappings.known import MAPPINGS, mapping_of
from bertwright.hub.mappings.mapping import HFMapping
from bertwright.hub.mappings.old_configs import model_type_of
from bertwright.hub.weights import read_object
from bertwright.log import note
from bertwright.model.crf import Crf
from bertwright.model.encoder import Part
from bertwright.model.random_state import kept_random_state
from bertwright.model.task_model import FineTuned, Problem

HEAD = ("weight", "bias")
"""The weights of a task's head."""
OWN = "bertwright"
"""The key of config.json under which a task keeps settings of its own; transformers passes it over."""
LENGTH = "max_length"
"""The setting there of the longest row."""


@dataclass(frozen=True)
class FineTunedFolder:
    """What a folder of a fine-tuned model holds: the model, in evaluation mode, and the names of its outputs."""

    model: FineTuned
    labels: tuple[str, ...]
    problem: Problem
    own: dict[str, Any]
    """What the task keeps of its own."""
    max_length: int
    """Tokens of the longest row: as it was trained, or all the positions it has."""


def save_fine_tuned(
    model: FineTuned,
    tokenizer: Path,
    out: Path,
    *,
    labels: Sequence[str],
    problem: Problem,
    own: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    card: str | None = None,
) -> None:
    """Write `model` to the folder `out`, whole or not at all; `labels` name its outputs in config.json.

    `own` are settings that the task keeps there too, and so is `max_length`, the longest row in tokens, where that is
    not every position. `tokenizer` is a tokenizer.json or a folder that has one. Raises ModelError as `save_model`
    does.
    """
    dialect = mapping_of(model.encoder.config)
    called, weights = dialect.head_called[model.part], model.classifier.state_dict()
    head = {f"{called}.{name}": weights[name].detach().cpu().contiguous() for name in HEAD}
    kept = dict(own or {})
    if max_length not in (None, model.encoder.config.max_positions):
        kept[LENGTH] = max_length
    settings = classifier_settings(
        dialect, part=model.part, labels=labels, problem=problem, dropout=model.dropout.share, own=kept
    )
    tensors = their_tensors(model.encoder, dialect) | head
    arrays = {} if model.crf is None else chain_arrays(model.crf.chain())
    beside = {CRF: {name: torch.from_numpy(array) for name, array in arrays.items()}} if arrays else {}
    write_folder(out, model.encoder.config, tokenizer, tensors=tensors, settings=settings, beside=beside, card=card)


def classifier_settings(
    dialect: HFMapping, *, part: Part, labels: Sequence[str], problem: Problem, dropout: float, own: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the config.json of a model with the head of a task says of that head."""
    return {
        "architectures": [dialect.fine_tuned_as[part]],
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
        **({} if part in ("choice", "span") else {"problem_type": problem}),
        "classifier_dropout": dropout,
        **({OWN: dict(own)} if own else {}),
    }


def fine_tuned_part(folder: Path) -> Part | None:
    """Return what the head of a folder is about, or None where it holds a pre-trained model."""
    values = read_object(folder / "config.json")
    told = values.get("architectures")
    names = [name for name in told if isinstance(name, str)] if isinstance(told, list) else []
    dialect = MAPPINGS.get(str(model_type_of(values)))
    parts: dict[str, Part] = {} if dialect is None else {name: part for part, name in dialect.fine_tuned_as.items()}
    return next((parts[name] for name in names if name in parts), None)


@kept_random_state()
def read_fine_tuned(folder: Path) -> FineTunedFolder:
    """Return the fine-tuned model of a folder; raises ModelError where it is none, or not whole.

    >>> read_fine_tuned(Path("runs/sst2/model")).labels  # needs a model  # doctest: +SKIP
    ('negative', 'positive')
    """
    encoder, report = read_model(folder)
    part, values = fine_tuned_part(folder), read_object(folder / "config.json")
    called = mapping_of(encoder.config).head_called
    if part is None or not all(f"{called[part]}.{name}" in report.unused for name in HEAD):
        raise ModelError(f"{folder} has no head of a task; give a folder that `bertwright finetune` wrote as RUN/model")
    head = {name: report.unused[f"{called[part]}.{name}"].to(torch.float32) for name in HEAD}
    outputs = len(head["weight"])
    model = FineTuned(encoder, part=part, outputs=outputs, dropout=_dropout(values, folder))
    chain = read_chain(folder, tags=outputs) if part == "token" else None
    model.crf = None if chain is None else Crf.of(chain)
    lost = [name for name in report.initialised if name in model.encoder.state_dict()]
    if lost:
        raise ModelError(f"{folder} lacks weights of its head ({', '.join(lost)}); copy or download it again")
    _fill_head(model, head, folder)
    told: Problem = values.get("problem_type") or "single_label_classification"
    problem: Problem = told if told in get_args(Problem) else "single_label_classification"
    own, positions = _own(values, folder), encoder.config.max_positions
    longest = own.pop(LENGTH, positions)
    if not isinstance(longest, int) or not 8 <= longest <= positions:
        raise ModelError(f"{folder}/config.json: {LENGTH} should be from 8 to {positions}; fix it")
    return FineTunedFolder(model.eval(), _labels(values, outputs, folder), problem, own, longest)


def _fill_head(model: FineTuned, head: dict[str, Tensor], folder: Path) -> None:
    try:
        model.classifier.load_state_dict(head)
    except RuntimeError as error:
        raise ModelError(f"the head in {folder} does not fit its encoder; fix the config or the weights") from error


def _labels(values: dict[str, Any], outputs: int, folder: Path) -> tuple[str, ...]:
    names = values.get("id2label") or {str(index): f"LABEL_{index}" for index in range(outputs)}
    if not isinstance(names, dict) or any(str(index) not in names for index in range(outputs)):
        count = f"{len(names)} labels" if isinstance(names, dict) else "no labels"
        raise ModelError(f"{folder}/config.json names {count} in id2label but its head has {outputs}; fix it")
    labels = tuple(str(names[str(index)]) for index in range(outputs))
    numbers = values.get("label2id")
    if isinstance(numbers, dict) and any(numbers.get(label, index) != index for index, label in enumerate(labels)):
        note(f"warning: id2label and label2id in {folder}/config.json contradict each other; id2label is used")
    return labels


def _own(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    own = values.get(OWN) or {}
    if not isinstance(own, dict):
        raise ModelError(f"{folder}/config.json: {OWN} should be an object; fix it")
    return dict(own)


def _dropout(values: dict[str, Any], folder: Path) -> float:
    share = values.get("classifier_dropout") or 0.0
    if not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise ModelError(f"{folder}/config.json: classifier_dropout should be from 0 to below 1; fix it")
    return float(share)
