"""Turns labelled rows into the logits of a fine-tuned model, batched by length, in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from bertwright.data.labelled import LabelledRows, in_order_of_length
from bertwright.model.fine_tuned import FineTuned

ROWS = 64
"""Rows of a batch at most."""
TOKENS = 8192
"""Tokens of a batch at most, padding included."""


@torch.inference_mode()
def score_rows(
    model: FineTuned,
    rows: LabelledRows,
    *,
    device: torch.device,
    cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> np.ndarray:
    """Return logits [Q, outputs] float32 of everything asked, row after row; the model stays in the mode it was in.

    A model whose training steps are compiled runs uncompiled here: graphs for scoring would take longer than they save.
    """
    training = model.training
    model.eval()
    begins = np.cumsum(rows.asked_counts) - rows.asked_counts
    logits = np.empty((int(rows.asked_counts.sum()), model.classifier.out_features), dtype=np.float32)
    for places, batch in in_order_of_length(rows, batch_rows=ROWS, tokens=TOKENS):
        with cast(), torch.compiler.set_stance("force_eager"):
            scores = model(batch.to(device)).float().cpu().numpy()
        slots = np.arange(scores.shape[1])[None, :]
        used = slots < rows.asked_counts[places][:, None]
        logits[(begins[places][:, None] + slots)[used]] = scores[used]
    model.train(training)
    return logits
