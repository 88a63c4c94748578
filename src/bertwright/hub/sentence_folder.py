"""Turns a sentence encoder into a sentence-transformers folder and back: the encoder, how it is pooled, its length.

What is written loads in stock sentence-transformers, and its encoder in transformers' AutoModel. What is read may be
such a folder, also with its encoder in 0_Transformer/, or any other folder of an encoder, which has no pooling.

    config.json  model.safetensors  tokenizer.json      the encoder, as BertModel or ModernBertModel
    modules.json                                        Transformer, Pooling, and Normalize where it is used
    sentence_bert_config.json                           the longest row
    1_Pooling/config.json                               mean, cls or max
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertwright.errors import ModelError
from bertwright.hub.encoder_folder import hf_tensors, read_model, write_folder
from bertwright.hub.mappings.known import mapping_of
from bertwright.hub.sentence_layout import (
    DESCRIPTION,
    MODULES,
    Prompts,
    encoder_folder,
    is_sentence_folder,
    module_folder,
    modules_of,
    prompts_of,
)
from bertwright.hub.weights import WEIGHTS, read_object
from bertwright.model.encoder import Encoder
from bertwright.model.random_state import kept_random_state
from bertwright.model.sentence_encoder import POOLINGS, Pooling, SentenceEncoder
from bertwright.tokenizer.load import load_tokenizer

NO_PROMPTS = Prompts()
LENGTH = "sentence_bert_config.json"
KINDS = ("Transformer", "Pooling", "Normalize")
"""The modules of sentence-transformers that are known, by the last word of their type."""
FLAGS: dict[str, str] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How folders written before sentence-transformers 6 name the pooling, and what they mean."""


@dataclass(frozen=True)
class SentenceSettings:
    """How a folder wants its encoder to be read.

    pooling     of the hidden states
    normalize   to unit length
    max_length  the longest row in tokens
    prompts     what is put before texts
    skip        tokens at the beginning of a row that are not pooled: those of the prompt, where they are left out
    """

    pooling: Pooling
    normalize: bool
    max_length: int
    prompts: Prompts = NO_PROMPTS
    skip: int = 0


@kept_random_state()
def read_sentence_folder(folder: Path) -> tuple[Encoder, SentenceSettings]:
    """Return the encoder of a folder and how it is read: mean and not normalised where the folder names nothing.

    Raises ModelError as `read_model` does, and where a sentence-transformers folder has a module or a pooling that is
    not supported.
    """
    encoder, _ = read_model(folder)
    return encoder, read_sentence_settings(folder, encoder.config.max_positions)


def read_sentence_settings(folder: Path, positions: int) -> SentenceSettings:
    """Return how the encoder of a folder is read, which has so many positions; see `read_sentence_folder`."""
    if not is_sentence_folder(folder):
        return SentenceSettings("mean", normalize=False, max_length=positions)
    modules, home = _modules(folder), encoder_folder(folder)
    length, prompts = _longest(home), prompts_of(folder)
    pooling, over_prompt = _pooling(module_folder(folder, modules["Pooling"]) / "config.json")
    max_length = positions if length is None else min(positions, length)
    skip = 0 if over_prompt or not prompts.text else 1 + len(load_tokenizer(home).encode(prompts.text))
    if skip >= max_length - 1:
        raise ModelError(f"the prompt of {folder} fills its rows of {max_length} tokens; give it a shorter one")
    return SentenceSettings(pooling, "Normalize" in modules, max_length, prompts, skip)


def save_sentence_model(
    model: SentenceEncoder,
    tokenizer: Path,
    out: Path,
    *,
    max_length: int,
    prompts: Prompts = NO_PROMPTS,
    card: str | None = None,
) -> None:
    """Write `model` to the folder `out`, whole or not at all; rows are cut at `max_length` tokens.

    `prompts` are kept for whoever reads the folder. `tokenizer` is a tokenizer.json or a folder that has one. Raises
    ModelError as `save_model` does.
    """
    config, mapping = model.encoder.config, mapping_of(model.encoder.config)
    tensors = {name.removeprefix(mapping.prefix): one for name, one in hf_tensors(model.encoder, mapping).items()}
    names = KINDS if model.normalize else KINDS[:2]
    default = {} if prompts.default is None else {"default_prompt_name": prompts.default}
    files = {
        MODULES: [_module(place, name) for place, name in enumerate(names)],
        LENGTH: {"max_seq_length": max_length, "do_lower_case": False},
        DESCRIPTION: {"prompts": dict(prompts.by_name), **default, "similarity_fn_name": "cosine"},
        f"{_path(1, 'Pooling')}/config.json": _written_pooling(model),
    }
    if model.normalize:
        files[f"{_path(2, 'Normalize')}/config.json"] = {}
    write_folder(
        out,
        config,
        load_tokenizer(tokenizer),
        tensors={WEIGHTS: tensors},
        settings={"architectures": [mapping.bare]},
        files=files,
        card=card,
    )


def _written_pooling(model: SentenceEncoder) -> dict[str, Any]:
    known = {flag: mode == model.pooling for flag, mode in FLAGS.items() if mode in POOLINGS}
    over_prompt = {"include_prompt": False} if model.skip else {}
    return {"word_embedding_dimension": model.encoder.config.hidden_size, **known, **over_prompt}


def _module(place: int, name: str) -> dict[str, Any]:
    path = "" if place == 0 else _path(place, name)
    return {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{name}"}


def _path(place: int, name: str) -> str:
    return f"{place}_{name}"


def _modules(folder: Path) -> dict[str, str]:
    """Return the path of each module by its kind; raises ModelError where one is not supported."""
    modules = modules_of(folder)
    unknown = [name for name in modules if name not in KINDS]
    if unknown or "Pooling" not in modules:
        raise ModelError(
            f"{folder} is made of {', '.join(modules)}; only Transformer, Pooling and Normalize are supported"
        )
    return modules


def _pooling(file: Path) -> tuple[Pooling, bool]:
    """Return the pooling that a file names, and whether the tokens of a prompt are pooled, too."""
    values = read_object(file)
    named = values.get("pooling_mode")
    modes = [mode for flag, mode in FLAGS.items() if values.get(flag)] or ["mean"]
    if named is not None:
        modes = list(map(str, named)) if isinstance(named, list) else [str(named)]
    known = next((name for name in POOLINGS if modes == [name]), None)
    if known is None:
        raise ModelError(f"{file} pools by {' and '.join(modes)}; only one of {', '.join(POOLINGS)} is supported")
    return known, values.get("include_prompt", True) is not False


def _longest(folder: Path) -> int | None:
    """Return the longest row that a sentence-transformers folder names, if any; since version 6 its tokenizer does."""
    values: Mapping[str, Any] = read_object(folder / LENGTH) if (folder / LENGTH).is_file() else {}
    if values.get("do_lower_case"):
        raise ModelError(f"{folder / LENGTH} asks for lower case; let its tokenizer do it, and set do_lower_case false")
    file, length = folder / LENGTH, values.get("max_seq_length")
    if not length:
        file = folder / "tokenizer_config.json"
        length = read_object(file).get("model_max_length") if file.is_file() else None
    if length is not None and not (isinstance(length, (int, float)) and 1 <= length < math.inf):
        raise ModelError(f"{file} says that rows have at most {str(length)[:50]} tokens; give a number from 1")
    return None if length is None else int(length)
