"""Pre-trains BERT-style encoders from raw text; the public names, in the order of the walk from text to model.

>>> import bertwright
>>> bertwright.prepare(["my-texts/"], "data")            # doctest: +SKIP
>>> bertwright.pretrain("data", "run", recipe="classic-muon")    # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertwright.corpus.shards import Shards as Shards
    from bertwright.export.huggingface import load_model as load_model
    from bertwright.recipes.doctor import doctor as doctor
    from bertwright.recipes.embed import embed as embed
    from bertwright.recipes.evaluate import evaluate as evaluate
    from bertwright.recipes.export import export as export
    from bertwright.recipes.finetune import finetune as finetune
    from bertwright.recipes.predict import predict as predict
    from bertwright.recipes.prepare import prepare as prepare
    from bertwright.recipes.pretrain import pretrain as pretrain
    from bertwright.recipes.quickstart import quickstart as quickstart
    from bertwright.recipes.show import show as show
    from bertwright.recipes.verify import verify as verify
    from bertwright.tokenizer.load import load_tokenizer as load_tokenizer

__version__ = "0.1.0"

_HOMES = {
    "quickstart": "bertwright.recipes.quickstart",
    "prepare": "bertwright.recipes.prepare",
    "doctor": "bertwright.recipes.doctor",
    "Shards": "bertwright.corpus.shards",
    "load_tokenizer": "bertwright.tokenizer.load",
    "pretrain": "bertwright.recipes.pretrain",
    "load_model": "bertwright.export.huggingface",
    "evaluate": "bertwright.recipes.evaluate",
    "finetune": "bertwright.recipes.finetune",
    "predict": "bertwright.recipes.predict",
    "embed": "bertwright.recipes.embed",
    "export": "bertwright.recipes.export",
    "show": "bertwright.recipes.show",
    "verify": "bertwright.recipes.verify",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Return a public name, importing its home when first asked: preparing text should not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bertwright' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


class _FrontDoor(ModuleType):
    """A module whose public names stay functions when a room of the same name, such as `evaluate`, is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor
