"""Turns a folder that Hugging Face `datasets` wrote with save_to_disk into the Arrow files it names, in their order.

    folder/dataset_dict.json    {"splits": ["train", "test"]}
    folder/train/state.json     {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}

Read with pyarrow alone; files of the folder that its state.json does not name, such as cached maps, are no part of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertwright.errors import CorpusError, InputError
from bertwright.files import inside, read_json
from bertwright.log import note


def dataset_files(folder: Path) -> list[Path] | None:
    """Return the Arrow files of a dataset folder, or None where the folder is none.

    Of several splits only "train" is taken, where there is one, so that no test set is trained on unasked; a note says
    which are left out. Raises CorpusError where a file that it names is absent or outside of it.
    """
    if (folder / "dataset_dict.json").is_file():
        return _files_of_splits(folder)
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return _files_of_state(folder)
    return None


def _files_of_splits(folder: Path) -> list[Path]:
    splits = _part(folder / "dataset_dict.json", "splits")
    taken = ["train"] if "train" in splits else splits
    left_out = [str(split) for split in splits if split not in taken]
    if left_out:
        note(f"of the dataset {folder} the split train is read, not {', '.join(left_out)}; name {folder}/SPLIT for one")
    files = [file for split in taken for file in _files_of_state(_member(folder, split))]
    if not files:
        raise CorpusError(f"the dataset {folder} has no splits; save it again with save_to_disk")
    return files


def _files_of_state(folder: Path) -> list[Path]:
    entries = _part(folder / "state.json", "_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries]
    files = [_member(folder, name) for name in names]
    absent = next((file for file in files if not file.is_file()), None)
    if absent is not None:
        raise CorpusError(f"the dataset {folder} lacks {absent.name}, which its state.json names; fetch it again")
    return files


def _part(path: Path, name: str) -> list[Any]:
    """Return the list under `name` of a JSON object, or raise CorpusError."""
    try:
        value = read_json(path)[name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(f"{path} is damaged or absent ({error!r}); save the dataset again") from error
    if not isinstance(value, list):
        raise CorpusError(f'{path} is damaged ("{name}" is no list); save the dataset again with save_to_disk')
    return value


def _member(folder: Path, name: Any) -> Path:
    try:
        return inside(folder, name)
    except InputError as error:
        raise CorpusError(f"the dataset {folder} cannot be read: {error}") from error
