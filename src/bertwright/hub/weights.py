"""Turns the weight files of a Hugging Face model folder, one or several, into tensors, running none of its code."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bertwright.errors import ModelError
from bertwright.files import read_json
from bertwright.hub.pickled_weights import PICKLED, PICKLED_INDEX, SUFFIX, read_pickled

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PLACES = ((WEIGHTS, INDEX), (PICKLED, PICKLED_INDEX))
"""What weights are read from, the first that is there: a whole file, or the index of several."""
NOT_TORCH = ("tf_model.h5", "flax_model.msgpack", "model.ckpt.index", "bert_model.ckpt.index")
FILE_NAME = re.compile(r"[\w-][\w.-]{0,199}")
"""What an index may call a file: one of the folder itself. Links out of it are fine, as hubs keep their files so."""


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of `folder` by its Hugging Face name; raises ModelError where the files are not whole."""
    tensors: dict[str, Tensor] = {}
    for file in _files(folder):
        if file.suffix == SUFFIX:
            tensors.update(read_pickled(file))
            continue
        try:
            tensors.update(load_file(file))
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{file} cannot be read as safetensors ({error}); it may be cut short: copy or download it again"
            ) from error
    return tensors


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 of the weights of `folder`: of the file or, of several, of all of them in their order.

    Raises ModelError where there are none.
    """
    digest = hashlib.sha256()
    for path in _files(folder):
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a model folder; raises ModelError where it is missing or damaged."""
    try:
        value = read_json(file)
    except OSError as error:
        if file.name == "config.json" and (better := model_beside(file.parent)):
            raise ModelError(better) from error
        raise ModelError(
            f"{file.parent} has no readable {file.name}; give the Hugging Face folder of an encoder"
        ) from error
    except ValueError as error:
        raise ModelError(f"{file} is not valid JSON ({error}); copy or download it again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file} should hold a JSON object; copy or download it again")
    return value


def model_beside(folder: Path) -> str | None:
    """Say in a sentence where the model of a RUN, checkpoint or DATA folder is, or None for any other folder."""
    if (folder / "position.json").is_file():
        run = folder.parent.parent
        return f"{folder} is a checkpoint, from which a run goes on, and no model; give {run / 'model'} once it is done"
    if (folder / "model" / "config.json").is_file():
        return f"{folder} is a RUN folder; its model is in {folder / 'model'}: give that"
    if (folder / "config.toml").is_file():
        return f"{folder} is a RUN folder without a model yet; let it end, then give {folder / 'model'}"
    if any(folder.glob("train-*.arrow")):
        return f"{folder} is a DATA folder, which holds no model; give the model folder of a run"
    return None


def _files(folder: Path) -> list[Path]:
    """Return the files of the weights: safetensors where there are any, else what torch wrote."""
    for whole, index in PLACES:
        if (folder / whole).is_file():
            return [folder / whole]
        if (folder / index).is_file():
            return _named_in(folder / index, Path(whole).suffix)
    others = sorted(file.name for file in folder.glob("*") if file.name in NOT_TORCH)
    if others:
        raise ModelError(
            f"{folder} has its weights in {others[0]} alone; convert it to {WEIGHTS}, for example with transformers: "
            "AutoModel.from_pretrained(...).save_pretrained(...)"
        )
    raise ModelError(f"{folder} has no {WEIGHTS} and no {PICKLED}; give the Hugging Face folder of an encoder")


def _named_in(index: Path, suffix: str) -> list[Path]:
    """Return the files that an index names, all in its folder and of one kind."""
    folder, places = index.parent, read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index} names no weights; copy or download the folder again")
    if not all(isinstance(name, str) and FILE_NAME.fullmatch(name) for name in places.values()):
        raise ModelError(f"{index} names what is no file of the folder; copy or download it again")
    files = [folder / name for name in sorted(set(places.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}, named in {index.name}; copy or download it again")
    if any(file.suffix != suffix for file in files):
        raise ModelError(f"{index} names files that do not end in {suffix}; copy or download it again")
    return files
