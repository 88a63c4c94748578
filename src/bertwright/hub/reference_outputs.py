"""Turns a model folder into one that can be checked: checksums of its files, and what the model gives for a few tokens.

Whoever reads the folder later, on another machine or with another version, can tell whether it is whole and still gives
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
from bertwright.model.bert_family import Electra
from bertwright.model.encoder import Encoder

CHECKSUMS = "checksums.json"
EDITED = ("README.md",)
"""Without a checksum: people edit model cards."""
SHAPE = (2, 16)
"""Rows and tokens of the reference outputs; fewer tokens where the model reads fewer."""
KEPT = 64
"""Figures kept of each token, evenly spread over the width and the vocabulary."""
TOLERANCE = 1e-3
"""Largest difference that other kernels and thread counts make, far above the 1e-5 seen and far below any damage."""

Outputs = dict[str, list[float]]
KnownHead = Literal["mlm", "nsp", "rtd"] | None
"""Whose logits are kept beside the hidden states: of the head for masked tokens, next sentences, replaced tokens."""
ReadEncoder = Callable[[Path], tuple[Encoder, KnownHead]]
"""Reads the encoder of a folder, and returns which head it has from there."""


def write_reference(folder: Path, read: ReadEncoder) -> None:
    """Write `folder`/checksums.json; `read(folder)` returns its encoder and the head whose logits are kept."""
    write_checksums(folder, CHECKSUMS, besides=EDITED, probe=reference_outputs(folder, read))


@torch.inference_mode()
def reference_outputs(folder: Path, read: ReadEncoder) -> Outputs:
    """Return what the model of a folder gives for fixed tokens: hidden states and, where it has a head, logits."""
    with torch.random.fork_rng(devices=[]):
        model, head = read(folder)
    rows, tokens = SHAPE[0], min(SHAPE[1], model.config.max_positions)
    ids = (torch.arange(rows * tokens) * 7919 % model.config.vocab_size).reshape(rows, tokens)
    types = torch.zeros_like(ids)
    mask = torch.ones_like(ids, dtype=torch.bool)
    hidden = model.encode(ids, types, mask)
    outputs = {"hidden": _spread(hidden)}
    if head == "mlm":
        outputs["logits"] = _spread(model.mlm_logits(hidden))
    if head == "rtd" and isinstance(model, Electra):
        outputs["replaced"] = model.rtd_logits(hidden).flatten().tolist()
    if head == "nsp" and (pairs := model.nsp_logits(hidden)) is not None:
        outputs["next_sentence"] = _spread(pairs)
    return outputs


def output_difference(folder: Path, read: ReadEncoder) -> float:
    """Return the largest difference of what the model gives now from what it gave when the folder was written.

    Raises ModelError where the folder does not hold what it gave.
    """
    try:
        before: dict[str, Any] = read_json(folder / CHECKSUMS)["probe"]
        now = reference_outputs(folder, read)
        off = [(torch.tensor(before[name]) - torch.tensor(values)).abs().max() for name, values in now.items()]
        return float(torch.stack(off).max())
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RuntimeError) as error:
        raise ModelError(
            f"{folder / CHECKSUMS} does not hold what the model gave when it was written ({error})"
        ) from error


def _spread(values: torch.Tensor) -> list[float]:
    """Return KEPT figures of the last axis at each position, flat."""
    chosen = torch.linspace(0, values.shape[-1] - 1, KEPT).long()
    return [float(value) for value in values.float()[..., chosen].flatten()]
