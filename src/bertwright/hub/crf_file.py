"""Turns the CRF of a tagger into crf.safetensors beside its weights, and back.

Stock transformers looks at model.safetensors alone and tags by the logits; bertwright decodes by the transitions too.
No torch is imported here: an exported tagger is read without it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bertwright.errors import ModelError
from bertwright.model.crf_decode import STEPS, CRFDecoder

CRF = "crf.safetensors"
"""first [K], next [K, K] (from, to) and last [K], float32: what each step adds; the same with "allowed_", bool."""


def crf_arrays(decoder: CRFDecoder) -> dict[str, np.ndarray]:
    """Return what is written to crf.safetensors, by name."""
    added = {name: values.astype(np.float32) for name, values in zip(STEPS, decoder.added, strict=True)}
    return added | {f"allowed_{name}": values for name, values in zip(STEPS, decoder.allowed, strict=True)}


def read_crf(folder: Path, *, tags: int) -> CRFDecoder | None:
    """Return the CRF of a folder with so many tags, or None where it has none; raises ModelError where unfit."""
    file = folder / CRF
    if not file.is_file():
        return None
    try:
        found = load_file(file)
        first, following, last = (found[name].astype(np.float64) for name in STEPS)
        opens, follows, ends = (found[f"allowed_{name}"].astype(bool) for name in STEPS)
        for steps in ((first, following, last), (opens, follows, ends)):
            if [values.shape for values in steps] != [(tags,), (tags, tags), (tags,)]:
                raise ValueError(f"it is about {' and '.join(str(values.shape) for values in steps)} steps of tags")
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"{file} does not fit a head of {tags} tags ({error}); copy or download the folder again"
        ) from error
    return CRFDecoder((first, following, last), (opens, follows, ends))
