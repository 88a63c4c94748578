"""Turns a MODEL folder into the beginning of a run: settings that say what it is, and the weights it begins with.

    MODEL -> open_start -> Start -> settings    -> [start] of config.toml: model_type, SHA-256 of the weights, shape
                                 -> go_on_from  -> the model of the run, with new heads where MODEL lacks those it needs

The model decides architecture and shape; where it lay is not written down. `pretrain --init-from MODEL`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bertwright.data.pretraining.dataset import Dataset
from bertwright.errors import ConfigError, DataError, UsageError
from bertwright.hub.encoder_folder import LoadReport, read_model
from bertwright.hub.mappings.known import mapping_of
from bertwright.hub.sentence_layout import encoder_folder
from bertwright.hub.weights import weights_digest
from bertwright.log import note
from bertwright.model.build import architecture_of
from bertwright.model.config import ModelConfig
from bertwright.model.encoder import Encoder
from bertwright.model.init.new_vocabulary import POSITIONS, move_positions, move_vocabulary
from bertwright.model.init.token_head import start_token_head
from bertwright.tokenizer.load import load_tokenizer
from bertwright.tokenizer.vocabulary_map import VocabularyMap, digest_of, read_vocabulary_map
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.types import MaskedBatch

FOR_PAIRS = {"pooler": "pooler", "nsp_head": "next-sentence head"}
"""Parts of a model that next sentences are predicted by."""
OFF: dict[str, Any] = {"init": "noise", "sinusoidal_start": False, "neighbour_start": False}
"""What a recipe makes of a model just drawn, switched off."""


@dataclass(frozen=True)
class Start:
    """The model a run goes on from: its folder, the model itself, and what the folder lacked.

    `vocabulary` says where the tokens of the data come from among the model's, where the data have another vocabulary.
    """

    folder: Path
    model: Encoder
    report: LoadReport
    vocabulary: VocabularyMap | None = None

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that goes on from it, to be laid over its recipe and flags.

        `given` are the settings of the call. Raises ConfigError where they ask for another model.
        """
        shape, folder = self.model.config, self.folder
        architecture, size = architecture_of(shape), size_of(shape)
        decided = {
            "architecture": architecture, "layers": shape.layers, "hidden_size": shape.hidden_size,
            "heads": shape.heads, "max_positions": shape.max_positions,
            "global_every": getattr(shape, "global_every", None), **OFF,
        }  # fmt: skip
        asked = {"size": given.get("size"), **{f"model.{name}": one for name, one in given.get("model", {}).items()}}
        for name, value in asked.items():
            known = size if name == "size" else decided.get(name.removeprefix("model."), value)
            if value is not None and value != known:
                raise ConfigError(
                    f"{name} {value}: the model that a run goes on from decides, and {folder} has {known}; leave it out"
                )
        model = {**dict.fromkeys(("layers", "hidden_size", "heads", "global_every")), **OFF}
        model |= {"architecture": architecture, "max_positions": shape.max_positions}
        start = {
            "model_type": mapping_of(shape).model_type,
            "sha256": weights_digest(encoder_folder(folder)),
            "shape": shape.model_dump(mode="json"),
            "new_vocabulary": self.vocabulary is not None,
        }
        return {"size": size, "model": model, "start": start}


def open_start(folder: Path | str, data: Path) -> Start:
    """Return the model in a folder, for the first DATA folder of a run; raises ModelError where it holds none."""
    model, report = read_model(Path(folder))
    vocabulary = read_vocabulary_map(data)
    if vocabulary is not None and vocabulary.old_sha256 != digest_of(load_tokenizer(Path(folder))):
        vocabulary = None  # made for another model
    return Start(Path(folder), model, report, vocabulary)


def size_of(shape: ModelConfig) -> str:
    """Return the name of a model's size, or layers/width of one that has no name.

    >>> from bertwright.model.config import BertConfig
    >>> size_of(BertConfig(vocab_size=9, layers=6, hidden_size=384, heads=12, intermediate_size=1536))
    '6/384'
    """
    wanted = (shape.layers, shape.hidden_size, shape.heads, shape.intermediate_size)
    named = next((name for name, size in type(shape).sizes.items() if size == wanted), None)
    return named or f"{shape.layers}/{shape.hidden_size}"


def require_start(dataset: Dataset, config: PretrainConfig, start: Start | None) -> None:
    """Raise UsageError where a run has yet to read the model it goes on from, and DataError where that does not fit.

    It does not fit data that was prepared with another tokenizer.
    """
    if start is None:
        if config.start is not None:
            raise UsageError("the run goes on from a model and has no checkpoint yet; give --init-from MODEL again")
        return
    if start.vocabulary is not None:
        return
    ours, theirs = dataset.tokenizer, load_tokenizer(start.folder)
    if ours.json_bytes != theirs.json_bytes and (ours.tokens, ours.special) != (theirs.tokens, theirs.special):
        raise DataError(
            f"{dataset.folders[0]} was prepared with another tokenizer than {start.folder}'s, whose vectors would "
            f"stand for other tokens; prepare it with --tokenizer {start.folder} (--extend-vocab N adds pieces of it)"
        )


def _with_new_vocabulary(
    state: Mapping[str, Tensor], vocabulary: VocabularyMap, dataset: Dataset, *, neighbours: bool
) -> Mapping[str, Tensor]:
    """Return the weights of a model with the rows of the data's vocabulary, and say how many tokens are new."""
    fresh, every = int((vocabulary.kept < 0).sum()), len(vocabulary.kept)
    means = "kept words that are their neighbours, or else of " if neighbours else ""
    note(
        f"another vocabulary: {every - fresh:,} of {every:,} tokens keep their vectors, {fresh:,} begin as means of "
        f"{means}the old tokens of their text"
    )
    return move_vocabulary(state, vocabulary, counts=dataset.neighbour_counts() if neighbours else None)


def go_on_from(
    start: Start,
    model: Encoder,
    dataset: Dataset,
    *,
    pairs: bool,
    examples: Callable[[], Sequence[MaskedBatch]],
    neighbours: bool = False,
) -> None:
    """Give a model just drawn the weights of another, in place, and say in a line what that lacks.

    Tokens that are new in the data's vocabulary begin from `neighbours` among the kept, or from their old pieces.
    Without a masked-token head it gets one near the identity, fitted to some masked rows of the data, `examples()`;
    heads for `pairs` of segments that are not there stay as drawn.
    """
    folder, report = start.folder, start.report
    state: Mapping[str, Tensor] = start.model.state_dict()
    if start.vocabulary is not None:
        state = _with_new_vocabulary(state, start.vocabulary, dataset, neighbours=neighbours)
        if POSITIONS in state:
            state = {**state, POSITIONS: move_positions(state[POSITIONS], model.state_dict()[POSITIONS])}
    found = {name: tensor for name, tensor in state.items() if name not in report.initialised}
    missing = model.load_state_dict(found, strict=False).missing_keys
    note(f"going on from {folder}: {mapping_of(model.config).model_type}, {size_of(model.config)}")
    if report.lacks("mlm_head"):
        counts = dataset.token_fractions * sum(split.token_count for split in dataset.train)
        start_token_head(model, counts, examples())
        note(
            f"{folder} has no masked-token head: a new one begins near the identity, its bias with how frequent each "
            "token is"
        )
    new = [words for head, words in FOR_PAIRS.items() if any(name.startswith(f"{head}.") for name in missing)]
    if pairs and new:
        note(f"{folder} has no {' and no '.join(new)}: drawn at random, to be trained from the start")
