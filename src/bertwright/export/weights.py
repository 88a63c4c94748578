"""Reads the tensors of a Hugging Face model folder, in one safetensors file or several, running none of its code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bertwright.errors import ModelError
from bertwright.files import read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FILE_NAME = re.compile(r"[\w-][\w.-]{0,199}")
"""What an index may call a file: one of the folder itself. Links out of it are fine, as hubs keep their files so."""


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of `folder` by its Hugging Face name; raises ModelError where the files are not whole."""
    tensors: dict[str, Tensor] = {}
    for file in _files(folder):
        try:
            tensors.update(load_file(file))
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{file} cannot be read as safetensors ({error}); it may be cut short: copy or download it again"
            ) from error
    return tensors


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a model folder; raises ModelError where it is missing or damaged."""
    try:
        value = read_json(file)
    except OSError as error:
        raise ModelError(f"{file.parent} has no readable {file.name}; give a Hugging Face BERT folder") from error
    except ValueError as error:
        raise ModelError(f"{file} is not valid JSON ({error}); copy or download it again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file} should hold a JSON object; copy or download it again")
    return value


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        places = read_object(folder / INDEX).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise ModelError(f"{folder / INDEX} names no weights; copy or download the folder again")
        if not all(isinstance(name, str) and FILE_NAME.fullmatch(name) for name in places.values()):
            raise ModelError(f"{folder / INDEX} names what is no file of the folder; copy or download it again")
        files = [folder / name for name in sorted(set(places.values()))]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise ModelError(f"{folder} lacks {', '.join(missing)}, named in {INDEX}; copy or download it again")
        return files
    pickled = sorted(file.name for file in folder.glob("*.bin"))
    if pickled:
        raise ModelError(
            f"{folder} has its weights in {pickled[0]}, a pickle, which could run any code when read; convert it to "
            f"{WEIGHTS} first, for example with transformers: AutoModel.from_pretrained(...).save_pretrained(...)"
        )
    raise ModelError(f"{folder} has no {WEIGHTS}; give a Hugging Face BERT folder")
