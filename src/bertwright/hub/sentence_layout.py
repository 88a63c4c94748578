"""Turns a model folder into the folder of its encoder: itself, or 0_Transformer/ of sentence-transformers 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertwright.errors import InputError, ModelError
from bertwright.files import optional_object, read_json, safe_join

MODULES = "modules.json"
DESCRIPTION = "config_sentence_transformers.json"


def is_sentence_folder(folder: Path) -> bool:
    """Say whether a folder has a sentence-transformers model."""
    return (folder / MODULES).is_file()


def modules_of(folder: Path) -> dict[str, str]:
    """Return the path of each module of a sentence-transformers folder by its kind, such as "Pooling"."""
    try:
        return {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in read_json(folder / MODULES)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / MODULES} is damaged ({error}); copy or download the folder again") from error


def encoder_folder(folder: Path) -> Path:
    """Return where config.json, weights and tokenizer lie: `folder`, or what its modules.json names as Transformer.

    Raises ModelError where that is damaged or leads out of the folder.
    """
    if not is_sentence_folder(folder):
        return folder
    return module_folder(folder, modules_of(folder).get("Transformer", ""))


def module_folder(folder: Path, path: str) -> Path:
    """Return the folder of a module by its path in modules.json; raises ModelError where that leads elsewhere."""
    if not path:
        return folder
    try:
        return safe_join(folder, path)
    except InputError as error:
        raise ModelError(str(error)) from error


@dataclass(frozen=True)
class Prompts:
    """The texts that a folder puts before others: by name, and the name of the one used by default."""

    by_name: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None

    @property
    def text(self) -> str:
        """The prompt put before every text; empty where there is none."""
        return "" if self.default is None else self.by_name[self.default]


def prompts_of(folder: Path) -> Prompts:
    """Return the prompts of a sentence-transformers folder; raises ModelError where they are damaged."""
    values = described(folder)
    by_name, default = values.get("prompts") or {}, values.get("default_prompt_name")
    texts = isinstance(by_name, dict) and all(isinstance(one, str) for one in by_name.values())
    if not texts or not (default is None or (isinstance(default, str) and default in by_name)):
        raise ModelError(
            f"{folder / DESCRIPTION}: default_prompt_name {str(default)[:100]!r} should be one of its prompts, each a "
            "text; fix it"
        )
    return Prompts(by_name, default)


def described(folder: Path) -> dict[str, Any]:
    """Return config_sentence_transformers.json, an empty object where there is none; raises ModelError if damaged."""
    return optional_object(folder / DESCRIPTION, error=ModelError, fix="copy or download the folder again")
