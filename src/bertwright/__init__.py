"""Pre-trains BERT-style encoders from raw text; the public names, in the order of the walk from text to model.

>>> import bertwright
>>> bertwright.prepare(["my-texts/"], "data")  # reads your texts  # doctest: +SKIP
>>> bertwright.pretrain("data", "run", recipe="classic-muon")  # trains  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bertwright.verbs import VERBS

if TYPE_CHECKING:
    from bertwright.corpus.shards import Shards as Shards
    from bertwright.hub.encoder_folder import load_model as load_model
    from bertwright.tokenizer.load import load_tokenizer as load_tokenizer
    from bertwright.verbs.bench import bench as bench
    from bertwright.verbs.distill import distill as distill
    from bertwright.verbs.doctor import doctor as doctor
    from bertwright.verbs.embed import embed as embed
    from bertwright.verbs.evaluate import evaluate as evaluate
    from bertwright.verbs.export import export as export
    from bertwright.verbs.finetune import finetune as finetune
    from bertwright.verbs.inspect import inspect as inspect
    from bertwright.verbs.plan import plan as plan
    from bertwright.verbs.predict import predict as predict
    from bertwright.verbs.prepare import prepare as prepare
    from bertwright.verbs.pretrain import pretrain as pretrain
    from bertwright.verbs.quickstart import quickstart as quickstart
    from bertwright.verbs.serve import serve as serve
    from bertwright.verbs.show import show as show
    from bertwright.verbs.tune import tune as tune
    from bertwright.verbs.verify import verify as verify
    from bertwright.verbs.watch import watch as watch

__version__ = "0.1.0"

_HOMES = {
    "Shards": "bertwright.corpus.shards",
    "load_tokenizer": "bertwright.tokenizer.load",
    "load_model": "bertwright.hub.encoder_folder",
}
"""Where public names that are no verbs are defined."""
_AFTER = {"doctor": ("Shards", "load_tokenizer"), "pretrain": ("load_model",)}
"""Its place on the walk: behind which verb."""

__all__ = [name for verb in VERBS for name in (verb, *_AFTER.get(verb, ()))]


def __getattr__(name: str) -> Any:
    """Return a public name, importing its module when it is first used: preparing text should not wait for torch."""
    is_verb = name in VERBS
    if not is_verb and name not in _HOMES:
        raise AttributeError(f"module 'bertwright' has no attribute {name!r}")
    return getattr(importlib.import_module(f"bertwright.verbs.{name}" if is_verb else _HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names, in the order of the walk."""
    return [*__all__, "__version__"]
