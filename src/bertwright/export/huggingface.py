"""Turns a model into a Hugging Face BERT folder and back: the only format models are kept in.

What is written loads in stock transformers as BertForPreTraining, BertForMaskedLM, AutoModel and so on; what is read
may be any BERT folder, whatever heads it has.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from bertwright.errors import ModelError
from bertwright.export.names import to_ours, to_theirs
from bertwright.export.weights import WEIGHTS, read_object, read_tensors
from bertwright.files import written_aside
from bertwright.log import note
from bertwright.model.config import ModelConfig
from bertwright.model.encoder import BertForPreTraining
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

FIELDS: dict[str, str] = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "type_vocab_size",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "layer_norm_eps": "layer_norm_eps",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
}
"""Hugging Face's name of each setting, and ours."""

MUST_BE: dict[str, object] = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
"""Settings of a config.json with one supported value, which is also what their absence means."""

HEADS = ("pooler.", "mlm_head.", "nsp_head.")
"""What a folder may lack: encoders fine-tuned or saved alone do not keep the pre-training heads."""

BESIDE = ("vocab.txt", "special_tokens_map.json", "tokenizer_config.json")
"""Files of a tokenizer folder that travel with its tokenizer.json."""


@dataclass(frozen=True)
class LoadReport:
    """What did not match when a folder was read.

    initialised  our names of weights the folder lacks, drawn at random: heads alone
    unused       their names of weights that pre-training has no place for, such as a classifier
    """

    initialised: tuple[str, ...]
    unused: tuple[str, ...]


def save_model(model: BertForPreTraining, tokenizer: Path, out: Path, *, card: str | None = None) -> None:
    """Write `model` to the folder `out` as Hugging Face's BertForPreTraining, whole or not at all.

    `tokenizer` is a tokenizer.json or a folder that has one; it is copied byte for byte. `card` becomes README.md.
    The tied decoder is left out, as transformers does. Raises ModelError where the tokenizer has more tokens than the
    model.
    """
    words = load_tokenizer(tokenizer)
    _check_vocabulary(words, model.config, place=str(words.path))
    with written_aside(out) as folder:
        folder.mkdir()
        tensors = {to_theirs(name): tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        _write_json(folder / "config.json", _their_config(model.config))
        _write_tokenizer(words, model.config, folder)
        if card is not None:
            (folder / "README.md").write_text(card, encoding="utf-8")


def load_model(folder: Path) -> BertForPreTraining:
    """Return the model of a Hugging Face BERT folder, in evaluation mode, on the CPU, in float32.

    Weights of missing heads are drawn at random, and a note says so. Raises ModelError as `read_model` does.

    >>> load_model(Path("runs/en/model")).config.hidden_size
    256
    """
    model, report = read_model(folder)
    if report.initialised:
        heads = sorted({name.split(".")[0] for name in report.initialised})
        note(f"{folder} has no weights for {', '.join(heads)}: drawn at random, of no use until trained")
    return model


def read_model(folder: Path) -> tuple[BertForPreTraining, LoadReport]:
    """Return the model of a Hugging Face BERT folder, in evaluation mode, and what did not match.

    Raises ModelError where the folder is not a whole BERT of the kind supported (absolute positions, GELU), its weights
    do not fit its config.json, or its tokenizer has more tokens than the model.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder; give a Hugging Face BERT folder")
    config = _our_config(folder)
    if (folder / "tokenizer.json").is_file():
        _check_vocabulary(load_tokenizer(folder), config, place=str(folder))
    model = BertForPreTraining(config)
    theirs = read_tensors(folder)
    _refuse_untied(theirs, folder)
    report = _fill(model, theirs, folder)
    return model.eval(), report


def _fill(model: BertForPreTraining, theirs: dict[str, Tensor], folder: Path) -> LoadReport:
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    unused: list[str] = []
    for name, tensor in theirs.items():
        ours = to_ours(name)
        if ours is not None and ours.startswith("blocks.") and ours not in wanted:
            raise ModelError(
                f"{folder} holds {name}, which its config.json ({model.config.layers} layers) has no place for; "
                "mend the config or the weights"
            )
        if ours is None or ours not in wanted:
            unused.append(name)
            continue
        if tensor.shape != wanted[ours].shape:
            raise ModelError(
                f"{name} in {folder} has shape {list(tensor.shape)} but its config.json asks for "
                f"{list(wanted[ours].shape)}; mend the config or the weights"
            )
        found[ours] = tensor.to(torch.float32)
    missing = [name for name in wanted if name not in found]
    lost = [name for name in missing if not name.startswith(HEADS)]
    if lost:
        raise ModelError(
            f"{folder} lacks {len(lost)} weights of the encoder, such as {to_theirs(lost[0])}; "
            "give a whole Hugging Face BERT folder"
        )
    model.load_state_dict(found, strict=False)
    return LoadReport(initialised=tuple(missing), unused=tuple(unused))


def _refuse_untied(theirs: dict[str, Tensor], folder: Path) -> None:
    decoder = theirs.pop("cls.predictions.decoder.weight", None)
    words = theirs.get("bert.embeddings.word_embeddings.weight")
    if decoder is not None and words is not None and not torch.equal(decoder, words):
        raise ModelError(
            f"the output matrix of {folder} differs from its word embeddings; only tied models are supported"
        )


def _our_config(folder: Path) -> ModelConfig:
    values = read_object(folder / "config.json")
    kind = values.get("model_type")
    if kind != "bert":
        raise ModelError(f"{folder} holds a model of type {kind!r}; only 'bert' is supported")
    for name, supported in MUST_BE.items():
        if values.get(name, supported) != supported:
            raise ModelError(f"{folder}/config.json has {name} {values[name]!r}; only {supported!r} is supported")
    given = {ours: values[theirs] for theirs, ours in FIELDS.items() if values.get(theirs) is not None}
    try:
        return ModelConfig.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        theirs = next((theirs for theirs, ours in FIELDS.items() if ours == place), place)
        raise ModelError(f"{folder}/config.json: {theirs} {problem['msg']}; mend it".replace("  ", " ")) from error


def _their_config(config: ModelConfig) -> dict[str, Any]:
    fixed: dict[str, Any] = {
        "architectures": ["BertForPreTraining"],
        "model_type": "bert",
        **MUST_BE,
        "tie_word_embeddings": True,
        "use_cache": True,
        "dtype": "float32",
    }
    return fixed | {theirs: getattr(config, ours) for theirs, ours in FIELDS.items()}


def _write_tokenizer(tokenizer: Tokenizer, config: ModelConfig, folder: Path) -> None:
    shutil.copyfile(tokenizer.path, folder / "tokenizer.json")
    for name in _present(tokenizer.path.parent, BESIDE):
        shutil.copyfile(tokenizer.path.parent / name, folder / name)
    if not (folder / "tokenizer_config.json").is_file():
        special = {
            f"{kind}_token": tokenizer.tokens[getattr(tokenizer.special, kind)]
            for kind in ("pad", "unk", "cls", "sep", "mask")
        }
        fixed = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.max_positions}
        inputs = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
        _write_json(folder / "tokenizer_config.json", fixed | inputs | special)


def _present(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if (folder / name).is_file()]


def _check_vocabulary(tokenizer: Tokenizer, config: ModelConfig, *, place: str) -> None:
    if tokenizer.vocab_size > config.vocab_size:
        raise ModelError(
            f"the tokenizer of {place} has {tokenizer.vocab_size:,} tokens but the model has room for "
            f"{config.vocab_size:,}; use the tokenizer the model was trained with"
        )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
