"""Turns rows of texts into their vectors, batched by length, in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from bertwright.data.labelled.rows_of_labels import LabelledRows, in_order_of_length
from bertwright.model.sentence_encoder import SentenceEncoder

ROWS = 256
"""Rows of a batch at most."""
TOKENS = {"cpu": 8192, "cuda": 65_536}
"""Tokens of a batch at most, padding included, by kind of device."""


@torch.inference_mode()
def row_vectors(
    model: SentenceEncoder,
    rows: LabelledRows,
    *,
    device: torch.device,
    cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    done: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """Return vectors [N, H] float32 of N rows; the model stays in the mode it was in.

    `done` hears after each batch how many rows it had.
    """
    training = model.training
    model.eval()
    vectors = np.empty((len(rows), model.encoder.config.hidden_size), dtype=np.float32)
    for places, batch in in_order_of_length(rows, batch_rows=ROWS, tokens=TOKENS[device.type]):
        with cast():
            vectors[places] = model(batch.to(device)).cpu().numpy()
        done(len(places))
    model.train(training)
    return vectors
