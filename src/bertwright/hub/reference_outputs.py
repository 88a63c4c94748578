"""Turns a model folder into a sealed one: checksums of its files, and what the model says to a few fixed tokens.

Whoever reads the folder later, on another machine or with another version, can tell whether it is whole and still says
the same: `bertwright verify`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from bertwright.checksums import write_checksums
from bertwright.errors import ModelError
from bertwright.files import read_json
from bertwright.model.encoder import Encoder

SEAL = "checksums.json"
EDITED = ("README.md",)
"""Not sealed: people write their own model cards."""
SHAPE = (2, 16)
"""Rows and tokens of the probe; fewer tokens where the model reads fewer."""
KEPT = 64
"""Figures kept of each token, evenly spread over the width and the vocabulary."""
TOLERANCE = 1e-3
"""Largest difference that other kernels and thread counts make, far above the 1e-5 seen and far below any damage."""

Answers = dict[str, list[float]]
KnownHead = Literal["mlm", "nsp"] | None
"""Whose answers are kept beside the hidden states: those of the masked-token head, or of the next-sentence head."""
ReadEncoder = Callable[[Path], tuple[Encoder, KnownHead]]
"""Reads the encoder of a folder, and says which head it has from there."""


def seal_model(folder: Path, read: ReadEncoder) -> None:
    """Write `folder`/checksums.json; `read(folder)` returns its encoder and the head to be kept answers of."""
    write_checksums(folder, SEAL, besides=EDITED, probe=probed(folder, read))


@torch.inference_mode()
def probed(folder: Path, read: ReadEncoder) -> Answers:
    """Return what the model of a folder says: its hidden states and, where it has a head, its logits."""
    with torch.random.fork_rng(devices=[]):
        model, head = read(folder)
    rows, tokens = SHAPE[0], min(SHAPE[1], model.config.max_positions)
    ids = (torch.arange(rows * tokens) * 7919 % model.config.vocab_size).reshape(rows, tokens)
    types = torch.zeros_like(ids)
    mask = torch.ones_like(ids, dtype=torch.bool)
    hidden = model.encode(ids, types, mask)
    answers = {"hidden": _spread(hidden)}
    if head == "mlm":
        answers["logits"] = _spread(model.mlm_logits(hidden))
    if head == "nsp" and (pairs := model.nsp_logits(hidden)) is not None:
        answers["next_sentence"] = _spread(pairs)
    return answers


def difference(folder: Path, read: ReadEncoder) -> float:
    """Return how far what the model says now is from what it said when the folder was written, at most.

    Raises ModelError where the folder does not tell what it said.
    """
    try:
        then: dict[str, Any] = read_json(folder / SEAL)["probe"]
        now = probed(folder, read)
        apart = [(torch.tensor(then[name]) - torch.tensor(values)).abs().max() for name, values in now.items()]
        return float(torch.stack(apart).max())
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RuntimeError) as error:
        raise ModelError(f"{folder / SEAL} does not tell what the model said when it was written ({error})") from error


def _spread(values: torch.Tensor) -> list[float]:
    """Return KEPT figures of the last axis at each place, flat."""
    chosen = torch.linspace(0, values.shape[-1] - 1, KEPT).long()
    return [float(value) for value in values.float()[..., chosen].flatten()]
