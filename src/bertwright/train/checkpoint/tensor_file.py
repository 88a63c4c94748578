"""Turns named tensors into a safetensors file, one tensor after the other, and tells the digest of what was written.

The library's own writer first joins all tensors in memory, and keeps the interpreter to itself until the file is on
disk; here training goes on meanwhile, no second copy is made, and the file need not be read again for its checksum.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import xxhash
from torch import Tensor

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What safetensors calls the types that weights and moments may have."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file and return the XXH3 digest (128 bits) of its bytes; OSError passes through."""
    header = _header(tensors)
    digest = xxhash.xxh3_128(header)
    with path.open("wb") as file:
        file.write(header)
        for tensor in tensors.values():
            held = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            file.write(held)
            digest.update(held)
    return digest.hexdigest()


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the head of the file: the length of a JSON object, and the object, which says where each tensor lies."""
    places, start = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        places[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, start + size],
        }
        start += size
    text = json.dumps(places, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
