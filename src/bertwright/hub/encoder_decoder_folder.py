"""Turns an encoder-decoder into the folder of transformers' EncoderDecoderModel, and back.

config.json holds the settings of the encoder and of the decoder, one inside the other; generation_config.json how texts
are written. Both sides share one tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from bertwright.errors import ModelError
from bertwright.hub.encoder_folder import (
    check_vocabulary,
    config_of,
    hf_config,
    hf_tensors,
    is_untied,
    load_weights,
    refuse_oversized,
    write_folder,
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
IS_DECODER = {"is_decoder": True, "add_cross_attention": True}

DECODER = replace(
    BERT,
    heads=(),
    in_block={
        **BERT.in_block,
        "crossattention.self.query": ("cross.query",),
        "crossattention.self.key": ("cross.key",),
        "crossattention.self.value": ("cross.value",),
        "crossattention.output.dense": ("cross.output",),
        "crossattention.output.LayerNorm": ("cross_norm",),
    },
)
"""How Hugging Face writes down the decoder: as BertLMHeadModel, whose blocks attend to the source text too."""
MOST_BEAMS, MOST_PENALTY = 256, 100
"""Limits of what a folder may ask for: memory and time grow with beams; people use 4 to 10, and penalties below 3."""


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
    words, mapping = load_tokenizer(tokenizer), mapping_of(model.encoder.config)
    encoder = {name.removeprefix(mapping.prefix): one for name, one in hf_tensors(model.encoder, mapping).items()}
    tensors = {f"encoder.{name}": one for name, one in encoder.items()}
    tensors |= {f"decoder.{name}": one for name, one in hf_tensors(model.decoder, DECODER).items()}
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
        "encoder": hf_config(model.encoder.config, mapping, words),
        "decoder": {
            **hf_config(model.decoder.config, DECODER, words),
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
    config = model.encoder.config
    write_folder(out, config, words, tensors={WEIGHTS: tensors}, files=files, card=card, read=read_encoder_side)


def read_encoder_side(folder: Path) -> tuple[Encoder, KnownHead]:
    """Return the encoder of an encoder-decoder's folder; that it has no head."""
    return read_encoder_decoder(folder).model.encoder, None


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
    mapping, shape = config_of(encoder_values, folder)
    if any(decoder_values.get(name) is not True for name in IS_DECODER):
        raise ModelError(f"the decoder of {folder} does not attend to its encoder; only decoders that do are supported")
    _, written = config_of({**decoder_values, **dict.fromkeys(IS_DECODER, False)}, folder)
    if not isinstance(written, BertConfig) or written.hidden_size != shape.hidden_size:
        raise ModelError(f"the decoder of {folder} is not a BERT as wide as its encoder; only such are supported")
    sides, tokenizer = _split(tensors), load_tokenizer(folder)
    for config, side in ((shape, "encoder"), (written, "decoder")):
        refuse_oversized(config, sides[side], folder)
        check_vocabulary(tokenizer, config, place=str(folder))
    if is_untied(sides["decoder"], DECODER):
        raise ModelError(f"the output matrix of {folder} differs from its word embeddings; only tied are supported")
    sides["decoder"].pop(DECODER.decoder, None)
    encoder, decoder = build_encoder(shape), Decoder(written)
    load_weights(encoder, sides["encoder"], mapping, folder)
    load_weights(decoder, sides["decoder"], DECODER, folder, side="decoder")
    return TranslationFolder(EncoderDecoder(encoder, decoder).eval(), tokenizer, _rules(folder, values, written))


def _side(values: dict[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """Return the settings of the encoder or the decoder; raises ModelError where there are none."""
    settings = values.get(name)
    if not isinstance(settings, dict):
        raise ModelError(f"{folder}/config.json has no settings of its {name}; copy or download it again")
    return settings


def _split(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the weights of either side by their names in it."""
    sides: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in tensors.items():
        side, _, rest = name.partition(".")
        sides.setdefault(side, {})[rest] = tensor
    return sides


def _rules(folder: Path, values: dict[str, Any], decoder: BertConfig) -> SearchRules:
    """Return how the folder wants texts to be written; else as transformers would, but for the longest length."""
    file = folder / "generation_config.json"
    writing = {**values, **(read_object(file) if file.is_file() else {})}
    begin, end = (writing.get(name, -1) for name in ("decoder_start_token_id", "eos_token_id"))
    if not all(type(token) is int and 0 <= token < decoder.vocab_size for token in (begin, end)):
        raise ModelError(
            f"{folder} does not name the tokens that a text begins and ends with; name them in {file.name}"
        )
    longest, beams = writing.get("max_length") or decoder.max_positions, writing.get("num_beams") or 1
    penalty = 1.0 if writing.get("length_penalty") is None else writing["length_penalty"]
    counted = type(longest) is int and longest > 1 and type(beams) is int and 1 <= beams <= MOST_BEAMS
    if not counted or not isinstance(penalty, (int, float)) or not abs(penalty) <= MOST_PENALTY:
        raise ModelError(
            f"{folder} writes texts of {longest!r} tokens by {beams!r} beams with a length penalty of {penalty!r}; "
            f"set max_length to 2 or more, num_beams to 1 to {MOST_BEAMS}, and length_penalty to at most {MOST_PENALTY}"
        )
    return SearchRules(begin, end, min(longest, decoder.max_positions), beams=beams, length_penalty=float(penalty))
