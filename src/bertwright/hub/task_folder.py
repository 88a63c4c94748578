"""Turns a fine-tuned model into the Hugging Face folder of its class, labels named, and back.

What is written loads in stock transformers as BertForSequenceClassification, BertForMultipleChoice,
BertForTokenClassification, BertForQuestionAnswering or another architecture's classes of those names; what is read may
have been saved by transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from bertwright.errors import ModelError
from bertwright.hub.crf_file import CRF, crf_arrays, read_crf
from bertwright.hub.encoder_folder import head_type_in, hf_tensors, read_model, write_folder
from bertwright.hub.mappings.known import MAPPINGS, mapping_of, model_type_of
from bertwright.hub.mappings.mapping import HFMapping
from bertwright.hub.weights import WEIGHTS, read_object
from bertwright.log import note
from bertwright.model.crf import Crf
from bertwright.model.encoder import HeadType
from bertwright.model.random_state import kept_random_state
from bertwright.model.task_model import FineTuned, Problem
from bertwright.tokenizer.load import load_tokenizer

HEAD = ("weight", "bias")
"""The weights of a task's head."""
EXTRA_CONFIG = "bertwright"
"""The key of config.json under which a task keeps its settings; transformers ignores it."""
LENGTH = "max_length"
"""The setting there of the longest row."""


@dataclass(frozen=True)
class FineTunedFolder:
    """What a folder of a fine-tuned model holds: the model, in evaluation mode, and the names of its outputs."""

    model: FineTuned
    labels: tuple[str, ...]
    problem: Problem
    extra_config: dict[str, Any]
    """The settings that the task keeps."""
    max_length: int
    """Tokens of the longest row: as it was trained, or all the positions it has."""


def save_fine_tuned(
    model: FineTuned,
    tokenizer: Path,
    out: Path,
    *,
    labels: Sequence[str],
    problem: Problem,
    extra_config: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    divisors: np.ndarray | None = None,
    card: str | None = None,
) -> None:
    """Write `model` to the folder `out`, whole or not at all; `labels` name its outputs in config.json.

    `extra_config` are settings that the task keeps there too, and so is `max_length`, the longest row in tokens, where
    that is not every position. The head that is written gives logits divided by `divisors` [outputs]. `tokenizer` is
    a tokenizer.json or a folder that has one. Raises ModelError as `save_model` does.
    """
    config = model.encoder.config
    mapping = mapping_of(config).with_head(model.head_type)
    head, weights = mapping.head_called[model.head_type], model.classifier.state_dict()
    tensors = hf_tensors(model.encoder, mapping)
    tensors |= {f"{head}.{name}": scaled(weights[name], divisors) for name in HEAD}
    extra = dict(extra_config or {})
    if max_length not in (None, config.max_positions):
        extra[LENGTH] = max_length
    settings = head_config(
        mapping, model.head_type, labels=labels, problem=problem, dropout=model.dropout.rate, extra=extra
    )
    files = {WEIGHTS: tensors}
    if model.crf is not None:
        files[CRF] = {name: torch.from_numpy(array) for name, array in crf_arrays(model.crf.decoder()).items()}
    write_folder(out, config, load_tokenizer(tokenizer), tensors=files, settings=settings, card=card)


def scaled(weights: Tensor, divisors: np.ndarray | None) -> Tensor:
    """Return weights [outputs, ...] of a head, each output divided by its divisor, if there are some."""
    values = weights.detach().cpu()
    if divisors is None or (divisors == 1).all():
        return values.contiguous()
    return (values.double() / torch.from_numpy(divisors).view(-1, *[1] * (values.ndim - 1))).to(values.dtype)


def head_config(
    mapping: HFMapping,
    head_type: HeadType,
    *,
    labels: Sequence[str],
    problem: Problem,
    dropout: float,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what the config.json of a model with the head of a task says of that head."""
    return {
        "architectures": [mapping.fine_tuned_as[head_type]],
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
        **({} if head_type in ("choice", "span") else {"problem_type": problem}),
        mapping.head_dropout[head_type]: dropout,
        **({EXTRA_CONFIG: dict(extra)} if extra else {}),
    }


def head_type_of(folder: Path) -> HeadType | None:
    """Return the type of the head of a folder, or None where it holds a pre-trained model."""
    values = read_object(folder / "config.json")
    mapping = MAPPINGS.get(str(model_type_of(values)))
    return None if mapping is None else head_type_in(values, mapping)


@kept_random_state()
def read_fine_tuned(folder: Path) -> FineTunedFolder:
    """Return the fine-tuned model of a folder; raises ModelError where it is none, or not whole.

    >>> read_fine_tuned(Path("runs/sst2/model")).labels  # needs a model  # doctest: +SKIP
    ('negative', 'positive')
    """
    encoder, report = read_model(folder)
    head_type, values = head_type_of(folder), read_object(folder / "config.json")
    mapping = mapping_of(encoder.config)
    head = {} if head_type is None else _head_weights(report.unused, mapping.head_called[head_type])
    if head_type is None or not head:
        raise ModelError(f"{folder} has no head of a task; give a folder that `bertwright finetune` wrote as RUN/model")
    outputs = len(head["weight"])
    model = FineTuned(
        encoder, head_type=head_type, outputs=outputs, dropout=_dropout(values, mapping.head_dropout[head_type], folder)
    )
    decoder = read_crf(folder, tags=outputs) if head_type == "token" else None
    model.crf = None if decoder is None else Crf.from_decoder(decoder)
    lost = [name for name in report.initialised if name in model.encoder.state_dict()]
    if lost:
        raise ModelError(f"{folder} lacks weights of its head ({', '.join(lost)}); copy or download it again")
    try:
        model.classifier.load_state_dict(head)
    except RuntimeError as error:
        raise ModelError(f"the head in {folder} does not fit its encoder; fix the config or the weights") from error
    named: Problem = values.get("problem_type") or "single_label_classification"
    problem: Problem = named if named in get_args(Problem) else "single_label_classification"
    extra, positions = _extra_config(values, folder), encoder.config.max_positions
    longest = extra.pop(LENGTH, positions)
    if not isinstance(longest, int) or not 8 <= longest <= positions:
        raise ModelError(f"{folder}/config.json: {LENGTH} should be from 8 to {positions}; fix it")
    return FineTunedFolder(model.eval(), _labels(values, outputs, folder), problem, extra, longest)


def _head_weights(unused: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    """Return weight and bias of the head of a task in float32, of weights the encoder has no use for; both or none."""
    found = {name: unused[f"{head}.{name}"] for name in HEAD if f"{head}.{name}" in unused}
    return {name: tensor.to(torch.float32) for name, tensor in found.items()} if len(found) == len(HEAD) else {}


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


def _extra_config(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    extra = values.get(EXTRA_CONFIG) or {}
    if not isinstance(extra, dict):
        raise ModelError(f"{folder}/config.json: {EXTRA_CONFIG} should be an object; fix it")
    return dict(extra)


def _dropout(values: dict[str, Any], name: str, folder: Path) -> float:
    rate = values.get(name) or 0.0
    if not isinstance(rate, (int, float)) or not 0 <= rate < 1:
        raise ModelError(f"{folder}/config.json: {name} should be from 0 to below 1; fix it")
    return float(rate)
