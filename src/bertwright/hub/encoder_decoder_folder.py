"""Turns an encoder-decoder into the folder of transformers' EncoderDecoderModel, and back.

config.json holds the settings of the encoder and of the decoder, one inside the other; generation_config.json how texts
are written. Both sides share one tokenizer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertwright.errors import ModelError
from bertwright.hub.encoder_folder import (
    check_vocabulary,
    config_of,
    load_weights,
    refuse_oversized,
    their_config,
    their_tensors,
    write_files,
)
from bertwright.hub.mappings.bert_names import BERT
from bertwright.hub.mappings.known import mapping_of
from bertwright.hub.reference_outputs import KnownHead
from bertwright.hub.weights import WEIGHTS, read_object, read_tensors
from bertwright.model.build import build_encoder
from bertwright.model.config import BertConfig
from bertwright.model.decoder import Decoder
from bertwright.model.encoder import Encoder
from bertwright.model.encoder_decoder import EncoderDecoder
from bertwright.model.generate import SearchRules
from bertwright.model.random_state import kept_random_state
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

MODEL_TYPE = "encoder-decoder"
PREFIXES = ("bert.", "model.")
"""What transformers puts before the names of an encoder's weights, but not in a model that is the encoder alone."""
IS_DECODER = {"is_decoder": True, "add_cross_attention": True}

CROSS_PARTS: tuple[tuple[str, str], ...] = (
    ("crossattention.self.query", "cross.query"),
    ("crossattention.self.key", "cross.key"),
    ("crossattention.self.value", "cross.value"),
    ("crossattention.output.dense", "cross.output"),
    ("crossattention.output.LayerNorm", "cross_norm"),
)
"""(theirs, ours) of what a block of a decoder has more than one of an encoder."""
THEIR_CROSS = {ours: theirs for theirs, ours in CROSS_PARTS}
LOST = "it may be cut short: copy or download it again"
MOST_BEAMS, MOST_PENALTY = 256, 100
"""Of a folder that says how to write: memory and time grow with beams; people use 4 to 10, and penalties below 3."""


@dataclass(frozen=True)
class TranslationFolder:
    """What a folder of an encoder-decoder holds: the model in evaluation mode, its tokenizer, how it writes."""

    model: EncoderDecoder
    tokenizer: Tokenizer
    rules: SearchRules


def is_encoder_decoder(folder: Path) -> bool:
    """Say whether a model folder holds an encoder-decoder."""
    return (folder / "config.json").is_file() and read_object(folder / "config.json").get("model_type") == MODEL_TYPE


def save_encoder_decoder(
    model: EncoderDecoder, tokenizer: Path, out: Path, *, rules: SearchRules, card: str | None = None
) -> None:
    """Write the folder `out`, whole or not at all; stock transformers loads it as EncoderDecoderModel.

    `tokenizer` is a tokenizer.json or a folder that has one. Raises ModelError where it has more tokens than the model.
    """
    words = load_tokenizer(tokenizer)
    dialect = mapping_of(model.encoder.config)
    encoder = {f"encoder.{_bare(name)}": tensor for name, tensor in their_tensors(model.encoder, dialect).items()}
    decoder = {
        f"decoder.{decoder_name(name)}": tensor.detach().cpu().contiguous()
        for name, tensor in model.decoder.state_dict().items()
    }
    special = {
        "decoder_start_token_id": rules.begin,
        "bos_token_id": rules.begin,
        "eos_token_id": rules.end,
        "pad_token_id": words.special.pad,
    }
    settings: dict[str, Any] = {
        "architectures": ["EncoderDecoderModel"],
        "model_type": MODEL_TYPE,
        "is_encoder_decoder": True,
        "encoder": their_config(model.encoder.config, dialect, words),
        "decoder": {
            **their_config(model.decoder.config, BERT, words),
            **IS_DECODER,
            "architectures": ["BertLMHeadModel"],
        },
        "tie_word_embeddings": True,
        "dtype": "float32",
        **{name: special[name] for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id")},
    }
    writing = {
        **special,
        "max_length": rules.max_length,
        "num_beams": rules.beams,
        "length_penalty": rules.length_penalty,
        "early_stopping": False,
    }
    files = {"config.json": settings, "generation_config.json": writing}
    tensors = {WEIGHTS: encoder | decoder}
    write_files(out, words, model.encoder.config, tensors=tensors, files=files, card=card, read=read_its_encoder)


def read_its_encoder(folder: Path) -> tuple[Encoder, KnownHead]:
    """Return the encoder of an encoder-decoder's folder; that it has no head."""
    return read_encoder_decoder(folder).model.encoder, None


def decoder_name(ours: str) -> str:
    """Return the name BertLMHeadModel gives one of the weights of our decoder.

    >>> decoder_name("blocks.0.cross.query.weight")
    'bert.encoder.layer.0.crossattention.self.query.weight'
    """
    part, _, leaf = ours.rpartition(".")
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", part)
    if block and block[2] in THEIR_CROSS:
        return f"bert.encoder.layer.{block[1]}.{THEIR_CROSS[block[2]]}.{leaf}"
    return BERT.to_theirs(ours)


@kept_random_state()
def read_encoder_decoder(folder: Path) -> TranslationFolder:
    """Return the encoder-decoder of a folder; raises ModelError where it is none, or not whole.

    >>> read_encoder_decoder(Path("runs/en-de/model")).rules.beams  # needs a model  # doctest: +SKIP
    4
    """
    values, tensors = read_object(folder / "config.json"), read_tensors(folder)
    if values.get("model_type") != MODEL_TYPE:
        raise ModelError(f"{folder} is no encoder-decoder; give a folder that `finetune translate` wrote as RUN/model")
    encoder_values, decoder_values = (_side(values, name, folder) for name in ("encoder", "decoder"))
    dialect, shape = config_of(encoder_values, folder)
    if any(decoder_values.get(name) is not True for name in IS_DECODER):
        raise ModelError(f"the decoder of {folder} does not look at its encoder; only such decoders are supported")
    _, written = config_of({**decoder_values, **dict.fromkeys(IS_DECODER, False)}, folder)
    if not isinstance(written, BertConfig) or written.hidden_size != shape.hidden_size:
        raise ModelError(f"the decoder of {folder} is not a BERT as wide as its encoder; only such are supported")
    sides, tokenizer = _split(tensors), load_tokenizer(folder)
    for config, side in ((shape, "encoder"), (written, "decoder")):
        refuse_oversized(config, sides[side], folder)
        check_vocabulary(tokenizer, config, place=str(folder))
    encoder, decoder = build_encoder(shape), Decoder(written)
    load_weights(encoder, sides["encoder"], dialect, folder)
    _fill_decoder(decoder, sides["decoder"], folder)
    return TranslationFolder(EncoderDecoder(encoder, decoder).eval(), tokenizer, _rules(folder, values, written))


def _side(values: dict[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """Return the settings of the encoder or the decoder; raises ModelError where there are none."""
    settings = values.get(name)
    if not isinstance(settings, dict):
        raise ModelError(f"{folder}/config.json has no settings of its {name}; copy or download it again")
    return settings


def _bare(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)


def _split(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the weights of either side by their names in it."""
    sides: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in tensors.items():
        side, _, rest = name.partition(".")
        sides.setdefault(side, {})[rest] = tensor
    return sides


def _fill_decoder(decoder: Decoder, theirs: dict[str, Tensor], folder: Path) -> None:
    output, words = theirs.get(BERT.decoder), theirs.get(BERT.words)
    if output is not None and words is not None and not torch.equal(output, words):
        raise ModelError(f"the output matrix of {folder} differs from its word embeddings; only tied are supported")
    wanted = {ours: decoder_name(ours) for ours in decoder.state_dict()}
    lost = [name for name in wanted.values() if name not in theirs]
    if lost:
        raise ModelError(f"{folder} lacks {len(lost)} weights of its decoder, such as {lost[0]}; {LOST}")
    try:
        decoder.load_state_dict({ours: theirs[name].to(torch.float32) for ours, name in wanted.items()})
    except RuntimeError as error:
        raise ModelError(f"the decoder in {folder} does not fit its config.json; fix the config or weights") from error


def _rules(folder: Path, values: dict[str, Any], decoder: BertConfig) -> SearchRules:
    """Return how the folder says to write; where it does not, as transformers would, but for the longest length."""
    file = folder / "generation_config.json"
    writing = {**values, **(read_object(file) if file.is_file() else {})}
    begin, end = (writing.get(name, -1) for name in ("decoder_start_token_id", "eos_token_id"))
    if not all(type(token) is int and 0 <= token < decoder.vocab_size for token in (begin, end)):
        raise ModelError(f"{folder} does not say which token a text begins or ends with; name them in {file.name}")
    longest, beams = writing.get("max_length") or decoder.max_positions, writing.get("num_beams") or 1
    penalty = 1.0 if writing.get("length_penalty") is None else writing["length_penalty"]
    counted = type(longest) is int and longest > 1 and type(beams) is int and 1 <= beams <= MOST_BEAMS
    if not counted or not isinstance(penalty, (int, float)) or not abs(penalty) <= MOST_PENALTY:
        raise ModelError(
            f"{folder} writes texts of {longest!r} tokens by {beams!r} beams with a length penalty of {penalty!r}; "
            f"set max_length to 2 or more, num_beams to 1 to {MOST_BEAMS}, and length_penalty to at most {MOST_PENALTY}"
        )
    return SearchRules(begin, end, min(longest, decoder.max_positions), beams=beams, length_penalty=float(penalty))
