"""Turns a MODEL folder into the beginning of a run: settings that say what it is, and the weights it begins with.

    MODEL -> start_settings -> [start] of config.toml: model_type, SHA-256 of the weights, shape; never where it lay
          -> go_on_from     -> the model of the run, with new heads where MODEL lacks those that the run needs

The model decides architecture and shape. `pretrain --init-from MODEL`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bertwright.data.pretraining.dataset import Dataset
from bertwright.errors import ConfigError, DataError, UsageError
from bertwright.hub.encoder_folder import read_config, read_model
from bertwright.hub.mappings.known import mapping_of
from bertwright.hub.sentence_layout import encoder_folder
from bertwright.hub.weights import weights_digest
from bertwright.log import note
from bertwright.model.build import architecture_of
from bertwright.model.config import ModelConfig
from bertwright.model.encoder import Encoder
from bertwright.model.init.token_head import start_token_head
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.types import MaskedBatch

FOR_PAIRS = {"pooler": "pooler", "nsp_head": "next-sentence head"}
"""Parts of a model that next sentences are predicted by."""
OFF: dict[str, Any] = {"init": "noise", "sinusoidal_start": False, "neighbour_start": False}
"""What a recipe makes of a model just drawn, switched off."""


def start_settings(folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that goes on from the model in `folder`, to be laid over its recipe and flags.

    `given` are the settings of the call. Raises ConfigError where they ask for another model than that, and ModelError
    where the folder holds none.
    """
    shape = read_config(folder)
    architecture, size = architecture_of(shape), size_of(shape)
    decided = {
        "architecture": architecture, "layers": shape.layers, "hidden_size": shape.hidden_size, "heads": shape.heads,
        "max_positions": shape.max_positions, "global_every": getattr(shape, "global_every", None), **OFF,
    }  # fmt: skip
    asked = {"size": given.get("size"), **{f"model.{name}": value for name, value in given.get("model", {}).items()}}
    for name, value in asked.items():
        known = size if name == "size" else decided.get(name.removeprefix("model."), value)
        if value is not None and value != known:
            raise ConfigError(
                f"{name} {value}: the model that a run goes on from decides, and {folder} has {known}; leave it out"
            )
    model = {**dict.fromkeys(("layers", "hidden_size", "heads", "global_every")), **OFF}
    start = {
        "model_type": mapping_of(shape).model_type,
        "sha256": weights_digest(encoder_folder(folder)),
        "shape": shape.model_dump(mode="json"),
    }
    model |= {"architecture": architecture, "max_positions": shape.max_positions}
    return {"size": size, "model": model, "start": start}


def size_of(shape: ModelConfig) -> str:
    """Return the name of a model's size, or layers/width of one that has no name.

    >>> from bertwright.model.config import BertConfig
    >>> size_of(BertConfig(vocab_size=9, layers=6, hidden_size=384, heads=12, intermediate_size=1536))
    '6/384'
    """
    wanted = (shape.layers, shape.hidden_size, shape.heads, shape.intermediate_size)
    named = next((name for name, size in type(shape).sizes.items() if size == wanted), None)
    return named or f"{shape.layers}/{shape.hidden_size}"


def require_start(dataset: Dataset, config: PretrainConfig, folder: Path | None) -> None:
    """Raise UsageError where a run has yet to read the model it goes on from, and DataError where that does not fit.

    It does not fit data that was prepared with another tokenizer.
    """
    if folder is None:
        if config.start is not None:
            raise UsageError("the run goes on from a model and has no checkpoint yet; give --init-from MODEL again")
        return
    theirs = load_tokenizer(folder)
    ours = dataset.tokenizer
    if ours.json_bytes != theirs.json_bytes and (ours.tokens, ours.special) != (theirs.tokens, theirs.special):
        raise DataError(
            f"{dataset.folders[0]} was prepared with another tokenizer than {folder}'s, whose vectors would stand for "
            f"other tokens; prepare it with --tokenizer {folder}"
        )


def go_on_from(
    model: Encoder, folder: Path, dataset: Dataset, *, pairs: bool, examples: Callable[[], Sequence[MaskedBatch]]
) -> None:
    """Give a model just drawn the weights of the one in `folder`, in place, and say in a line what it lacks.

    Without a masked-token head it gets one near the identity, fitted to some masked rows of the data, `examples()`;
    heads for `pairs` of segments that are not there stay as drawn.
    """
    source, report = read_model(folder)
    found = {name: tensor for name, tensor in source.state_dict().items() if name not in report.initialised}
    missing = model.load_state_dict(found, strict=False).missing_keys
    note(f"going on from {folder}: {mapping_of(model.config).model_type}, {size_of(model.config)}")
    if report.lacks("mlm_head"):
        counts = dataset.token_fractions * sum(split.token_count for split in dataset.train)
        start_token_head(model, counts, examples())
        kind = "one tied to the word embeddings" if report.untied else "masked-token head"
        note(f"{folder} has no {kind}: a new one begins near the identity, its bias with how frequent tokens are")
    new = [words for head, words in FOR_PAIRS.items() if any(name.startswith(f"{head}.") for name in missing)]
    if pairs and new:
        note(f"{folder} has no {' and no '.join(new)}: drawn at random, to be trained from the start")
