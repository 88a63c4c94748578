"""Turns labelled rows into the logits of a fine-tuned model, batched by length, in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.inference.batching import BatchPolicy, Predictor, logits_of
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.types import LabelledBatch

CPU_TOKENS = 2048
"""Tokens of a batch on a CPU: the attention scores of more, of long rows, take hundreds of MB and gain nothing."""


def score_rows(
    model: FineTuned,
    rows: LabelledRows,
    *,
    device: torch.device,
    cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    pace: BatchPolicy | None = None,
) -> np.ndarray:
    """Return logits [Q, outputs] float32 of everything asked, row after row; the model stays in the mode it was in.

    A model whose training steps are compiled runs uncompiled here: graphs for scoring would take longer than they save.
    """
    training = model.training
    model.eval()
    with torch.compiler.set_stance("force_eager"):  # here, not in a thread: threads would restore each other's stance
        pace = pace or (BatchPolicy() if device.type == "cuda" else BatchPolicy(tokens=CPU_TOKENS))
        logits = logits_of(ask_model(model, device=device, cast=cast), rows, pace=pace)
    model.train(training)
    return logits


def ask_model(
    model: FineTuned | SentenceEncoder,
    *,
    device: torch.device,
    cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Predictor[np.ndarray]:
    """Return the function that asks a model, in evaluation mode, about a batch of arrays: logits, or vectors [B, H]."""

    def ask(arrays: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        batch = LabelledBatch(asked=tensors.pop("asked", None), **tensors)
        with torch.inference_mode(), cast():
            logits: np.ndarray = model(batch.to(device)).float().cpu().numpy()
        return logits

    return ask
