"""Turns the CRF of a tagger into crf.safetensors beside its weights, and back.

Stock transformers looks at model.safetensors alone and tags by the logits; bertwright decodes by the transitions too.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bertwright.errors import ModelError
from bertwright.model.crf import Crf, Steps

CRF = "crf.safetensors"
"""first [K], next [K, K] (from, to) and last [K], float32: what each step adds; the same with "allowed_", bool."""
PARTS = ("first", "next", "last")


def crf_tensors(crf: Crf) -> dict[str, Tensor]:
    """Return what is written to crf.safetensors."""
    added = {name: getattr(crf, name) for name in PARTS}
    allowed = {f"allowed_{name}": getattr(crf, f"{name}_forbidden") == 0 for name in PARTS}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in (added | allowed).items()}


def read_crf(folder: Path, *, tags: int) -> Crf | None:
    """Return the CRF of a folder with so many tags, or None where it has none; raises ModelError where it is unfit."""
    file = folder / CRF
    if not file.is_file():
        return None
    try:
        found = load_file(file)
        allowed = [found[f"allowed_{name}"] for name in PARTS]
        if [tuple(steps.shape) for steps in allowed] != [(tags,), (tags, tags), (tags,)]:
            raise ValueError(f"it is about {' and '.join(str(tuple(steps.shape)) for steps in allowed)} steps of tags")
        crf = Crf(Steps(*allowed))
        with torch.no_grad():
            for name in PARTS:
                getattr(crf, name).copy_(found[name])
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{file} does not fit a head of {tags} tags ({error}); copy or download the folder again"
        ) from error
    return crf
