"""Turns models of torch into functions from the arrays of a batch to logits or vectors, and runs them over rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import ModelError
from bertwright.inference.batching import BatchPolicy, Forward, logits_of, vectors_of
from bertwright.model.encoder import Encoder
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.types import LabelledBatch

CPU_TOKENS = 2048
"""Tokens of a batch on a CPU: the attention scores of more, of long rows, take hundreds of MB and gain nothing."""
VECTOR_ROWS = 256
VECTOR_TOKENS = {"cpu": 8192, "cuda": 65_536}
"""Rows and tokens of a batch at most whose vectors are wanted, padding included, by kind of device."""

Cast = Callable[[], AbstractContextManager[Any]]
"""Begins the autocast in which a model is run."""
Head = Literal["masked-token", "next-sentence"]
"""A head that comes from pre-training."""


def score_rows(model: FineTuned, rows: LabelledRows, *, device: torch.device, cast: Cast = nullcontext) -> np.ndarray:
    """Return logits [Q, outputs] float32 of every position, row after row; the model stays in the mode it was in.

    A model whose training steps are compiled runs uncompiled here: graphs for scoring would take longer than they save.
    """
    training = model.training
    model.eval()
    with torch.compiler.set_stance("force_eager"):  # here, not in a thread: threads would restore each other's stance
        policy = BatchPolicy() if device.type == "cuda" else BatchPolicy(tokens=CPU_TOKENS)
        logits = logits_of(task_forward(model, device=device, cast=cast), rows, policy=policy)
    model.train(training)
    return logits


def row_vectors(
    model: SentenceEncoder, rows: LabelledRows, *, device: torch.device, cast: Cast = nullcontext
) -> np.ndarray:
    """Return vectors [N, H] float32 of N rows, in their order; the model stays in the mode it was in."""
    training = model.training
    model.eval()
    forward = task_forward(model, device=device, cast=cast)
    vectors = vectors_of(forward, rows, width=model.encoder.config.hidden_size, policy=vector_policy(device))
    model.train(training)
    return vectors


def vector_policy(device: torch.device) -> BatchPolicy:
    """Return how rows are batched whose vectors are wanted."""
    return BatchPolicy(rows=VECTOR_ROWS, tokens=VECTOR_TOKENS[device.type])


def task_forward(model: nn.Module, *, device: torch.device, cast: Cast = nullcontext) -> Forward[np.ndarray]:
    """Return what gives the logits [B, M, outputs] or vectors [B, H] of a batch; the model is in evaluation mode."""

    def forward(arrays: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        batch = LabelledBatch(asked=tensors.pop("asked", None), **tensors)
        with torch.inference_mode(), cast():
            logits: np.ndarray = model(batch.to(device)).float().cpu().numpy()
        return logits

    return forward


def encoder_forward(model: Encoder, head: Head) -> Forward[np.ndarray]:
    """Return what gives the logits of a head of pre-training (see `encoder_logits`), as an array."""
    return lambda arrays: encoder_logits(model, arrays, head=head).cpu().numpy()


@torch.inference_mode()
def encoder_logits(model: Encoder, arrays: Mapping[str, np.ndarray], *, head: Head) -> Tensor:
    """Return logits float32 of a batch: [B, M, V] of the vocabulary at its positions, or [B, 1, 2] of its pairs.

    The model is in evaluation mode. Raises ModelError where it has no next-sentence head.
    """
    device = next(model.parameters()).device
    names = ("input_ids", "token_type_ids", "attention_mask", "asked")
    hidden = model.encode(*(torch.from_numpy(arrays[name]).to(device) for name in names))
    if head == "masked-token":
        return model.mlm_logits(hidden).float()
    logits = model.nsp_logits(hidden)
    if logits is None:
        raise ModelError("the model has no next-sentence head; give one pre-trained with sentence pairs")
    return logits.float()[:, None]
