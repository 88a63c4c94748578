"""Turns a pytorch_model.bin into its tensors with torch's weights-only reader, memory-mapped: nothing in it is run.

The file is a pickle, and this is the one place that reads any. The reader knows tensors, dictionaries and numbers and
refuses every other name; what it returns is checked against the size of the file before memory is taken for it.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertwright.errors import ModelError

PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"
SUFFIX = ".bin"
ADVICE = "weights_only"
NAMED = re.compile(r"GLOBAL (\S+)")
"""What the reader says of the first name in a file that is not one of a tensor's."""
ZIP_START = b"PK\x03\x04"


def read_pickled(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a pytorch_model.bin by their names; raises ModelError where it holds anything else.

    Those of a file that torch 1.6 or later wrote stay on disk until they are used.
    """
    try:
        mapped = _is_plain_archive(file)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            values: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # the reader raises all kinds for a damaged file, all meaning that it cannot be read
        raise ModelError(
            f"{file} cannot be read as weights alone ({_reason(error)}); nothing in it was run: copy or download it "
            "again, or convert it to model.safetensors where it was made"
        ) from error
    if not isinstance(values, dict) or not values:
        raise ModelError(f"{file} should hold weights by name; give the pytorch_model.bin of a Hugging Face folder")
    tensors = {name: one for name, one in values.items() if isinstance(name, str) and isinstance(one, Tensor)}
    if len(tensors) < len(values):
        other = next(name for name, one in values.items() if not (isinstance(name, str) and isinstance(one, Tensor)))
        raise ModelError(f"{file} holds {str(other)[:100]!r}, which is no weight; give that of a Hugging Face folder")
    _require_held(tensors, file)
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _reason(error: Exception) -> str:
    """Return why a file is not read, without the reader's advice to run what is in it."""
    message = str(error)
    if found := NAMED.search(message):
        return f"it names {found[1][:100]}, which is no weight"
    return (
        "it is damaged, or no file of weights" if ADVICE in message or not message else " ".join(message.split())[:200]
    )


def _is_plain_archive(file: Path) -> bool:
    """Say whether a file is a zip archive, as since torch 1.6, not the stream of before; refuses packed ones."""
    with file.open("rb") as stream:
        if stream.read(len(ZIP_START)) != ZIP_START:
            return False
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(one.compress_type != zipfile.ZIP_STORED or one.flag_bits & 1 for one in members):
        raise ValueError("it is compressed, as torch never writes it")
    if sum(one.file_size for one in members) > file.stat().st_size:
        raise ValueError("its members claim more bytes than it has")
    return True


def _require_held(tensors: dict[str, Tensor], file: Path) -> None:
    """Raise ModelError where tensors are not plain ones, or claim more numbers than the file holds."""
    storages: dict[int, int] = {}
    for name, tensor in tensors.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or type(tensor) not in (Tensor, torch.nn.Parameter):
            raise ModelError(f"{name[:100]} in {file} is no plain tensor; convert it to model.safetensors")
        held = tensor.untyped_storage()
        storages[held.data_ptr()] = held.nbytes()
        if tensor.numel() * tensor.element_size() > held.nbytes():
            raise ModelError(f"{name[:100]} in {file} claims more numbers than it has; copy or download it again")
    if sum(storages.values()) > file.stat().st_size:
        raise ModelError(f"the weights in {file} claim more bytes than it has; copy or download it again")
