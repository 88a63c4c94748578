"""Turns a model into a Hugging Face folder and back: the only format models are kept in.

What is written loads in stock transformers as BertForPreTraining or ModernBertForMaskedLM, AutoModel and so on; what is
read may be any BERT or ModernBERT folder, whatever heads it has.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from bertwright.config import requirement
from bertwright.errors import ModelError
from bertwright.files import written_aside
from bertwright.hub.mappings.known import MAPPINGS, mapping_of
from bertwright.hub.mappings.mapping import HFMapping
from bertwright.hub.mappings.old_configs import model_type_of
from bertwright.hub.reference_outputs import KnownHead, ReadEncoder, seal_model
from bertwright.hub.sentence_layout import encoder_folder
from bertwright.hub.weights import WEIGHTS, read_object, read_tensors
from bertwright.log import note
from bertwright.model.build import build_encoder
from bertwright.model.config import ModelConfig
from bertwright.model.encoder import Encoder
from bertwright.model.random_state import kept_random_state
from bertwright.tokenizer.load import Tokenizer, has_tokenizer, load_tokenizer

WORDS = "embeddings.words.weight"
"""Our name of the word embeddings."""
EXTRA_TOKENIZER_FILES = ("vocab.txt", "special_tokens_map.json", "tokenizer_config.json")
"""Files of a tokenizer folder that travel with its tokenizer.json."""


@dataclass(frozen=True)
class LoadReport:
    """What did not match when a folder was read.

    initialised  our names of weights the folder lacks, drawn at random: heads alone
    unused       weights that pre-training has no place for, by their names, such as a classifier
    untied       the output matrix is not the word embeddings, so that the masked-token head is among `initialised`
    """

    initialised: tuple[str, ...]
    unused: Mapping[str, Tensor]
    untied: bool = False

    def lacks(self, head: str) -> bool:
        """Say whether weights of a head, "mlm_head" or "nsp_head", were not read."""
        return any(name.startswith(f"{head}.") for name in self.initialised)


def save_model(model: Encoder, tokenizer: Path, out: Path, *, card: str | None = None) -> None:
    """Write `model` to the folder `out` as its Hugging Face class, whole or not at all.

    `tokenizer` is a tokenizer.json or a folder that has one; it is copied byte for byte. `card` becomes README.md.
    The tied decoder is left out, as transformers does. Raises ModelError where the tokenizer has more tokens than the
    model.
    """
    dialect = mapping_of(model.config)
    write_folder(out, model.config, tokenizer, tensors=their_tensors(model, dialect), card=card)


def write_folder(
    out: Path,
    config: ModelConfig,
    tokenizer: Path,
    *,
    tensors: dict[str, Tensor],
    settings: Mapping[str, Any] | None = None,
    beside: Mapping[str, dict[str, Tensor]] | None = None,
    card: str | None = None,
    read: ReadEncoder | None = None,
) -> None:
    """Write a Hugging Face folder of weights under their names, whole or not at all, as `save_model` does.

    `settings` are laid over config.json: what a fine-tuned model says of its head. `beside` are further safetensors
    files by name, which transformers passes over. `read` is as in `write_files`.
    """
    words = load_tokenizer(tokenizer)
    values = their_config(config, mapping_of(config), words) | dict(settings or {})
    weights = {WEIGHTS: tensors, **(beside or {})}
    write_files(out, words, config, tensors=weights, files={"config.json": values}, card=card, read=read)


def write_files(
    out: Path,
    words: Tokenizer,
    config: ModelConfig,
    *,
    tensors: Mapping[str, dict[str, Tensor]],
    files: Mapping[str, dict[str, Any]],
    card: str | None,
    read: ReadEncoder | None = None,
) -> None:
    """Write safetensors files and JSON files by name, and the tokenizer of an encoder of `config`, whole or not at all.

    The folder is sealed with what the encoder that `read(folder)` finds in it says; `read_encoder` where not given.
    Raises ModelError where the tokenizer has more tokens than the model.
    """
    check_vocabulary(words, config, place=str(words.path))
    with written_aside(out) as folder:
        folder.mkdir()
        for name, held in tensors.items():
            save_file(held, folder / name, metadata={"format": "pt"})
        for name, values in files.items():
            _write_json(folder / name, values)
        _write_tokenizer(words, config, mapping_of(config), folder)
        if card is not None:
            (folder / "README.md").write_text(card, encoding="utf-8")
        seal_model(folder, read or read_encoder)


def read_encoder(folder: Path) -> tuple[Encoder, KnownHead]:
    """Return the encoder of a folder, and its masked-token head, if it has one."""
    model, report = read_model(folder)
    return model, None if any(name.startswith("mlm_head") for name in report.initialised) else "mlm"


@kept_random_state()
def load_model(folder: Path) -> Encoder:
    """Return the model of a Hugging Face BERT or ModernBERT folder, in evaluation mode, on the CPU, in float32.

    Weights of missing heads are drawn at random, and a note says so. Raises ModelError as `read_model` does.

    >>> load_model(Path("runs/en/model")).config.hidden_size  # needs a model  # doctest: +SKIP
    256
    """
    model, report = read_model(folder)
    if report.initialised:
        heads = sorted({name.split(".")[0] for name in report.initialised})
        has = "has a masked-token head of another kind, and" if report.untied else "has"
        note(f"{folder} {has} no weights for {', '.join(heads)}: drawn at random, of no use until trained")
    return model


def read_model(folder: Path) -> tuple[Encoder, LoadReport]:
    """Return the model of a Hugging Face BERT or ModernBERT folder, in evaluation mode, and what did not match.

    Raises ModelError where the folder is not a whole model of the kinds supported (see the dialects' `must_be`), its
    weights do not fit its config.json, or its tokenizer has more tokens than the model.
    """
    folder, dialect, config = _config_in(folder)
    return read_weights(folder, config, dialect)


def read_config(folder: Path) -> ModelConfig:
    """Return the settings of the encoder in a folder, its weights left alone; raises ModelError as `read_model` does.

    >>> read_config(Path("runs/en/model")).hidden_size  # needs a model  # doctest: +SKIP
    256
    """
    return _config_in(folder)[2]


def _config_in(folder: Path) -> tuple[Path, HFMapping, ModelConfig]:
    """Return the folder of the encoder itself, the mapping of its names, and its settings."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder; give a Hugging Face BERT folder")
    folder = encoder_folder(folder)
    return folder, *config_of(read_object(folder / "config.json"), folder)


def read_weights(folder: Path, config: ModelConfig, dialect: HFMapping) -> tuple[Encoder, LoadReport]:
    """Return a model of `config` with the weights of `folder`, read as `dialect` says, as `read_model` does."""
    if has_tokenizer(folder):
        check_vocabulary(load_tokenizer(folder), config, place=str(folder))
    theirs = read_tensors(folder)
    refuse_oversized(config, theirs, folder)
    model = build_encoder(config)
    untied = _is_untied(theirs, dialect)
    if untied:
        theirs = {name: tensor for name, tensor in theirs.items() if not _of_mlm_head(dialect.to_ours(name))}
    theirs.pop(dialect.decoder, None)
    report = load_weights(model, theirs, dialect, folder)
    return model.eval(), replace(report, untied=untied)


def load_weights(model: Encoder, theirs: dict[str, Tensor], dialect: HFMapping, folder: Path) -> LoadReport:
    """Put the weights of a folder, by their names, into `model`; return what did not match.

    Raises ModelError where one has another shape than the model, or is missing and no head's.
    """
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    unused: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        ours = dialect.to_ours(name)
        strange = [part for part in ours if part not in wanted]
        if any(part.startswith("blocks.") for part in strange):
            raise ModelError(
                f"{folder} holds {name}, which its config.json ({model.config.layers} layers) has no place for; "
                "fix the config or the weights"
            )
        if not ours or strange:
            unused[name] = tensor
            continue
        shape = list(wanted[ours[0]].shape)
        shape[0] *= len(ours)
        if list(tensor.shape) != shape:
            raise ModelError(
                f"{name} in {folder} has shape {list(tensor.shape)} but its config.json asks for {shape}; "
                "fix the config or the weights"
            )
        found.update(zip(ours, tensor.to(torch.float32).chunk(len(ours)), strict=True))
    missing = [name for name in wanted if name not in found]
    lost = [name for name in missing if not name.startswith(dialect.heads)]
    if lost:
        raise ModelError(
            f"{folder} lacks {len(lost)} weights of the encoder, such as {dialect.to_theirs(lost[0])}; "
            "give a whole Hugging Face folder"
        )
    model.load_state_dict(found, strict=False)
    return LoadReport(initialised=tuple(missing), unused=unused)


def their_tensors(model: Encoder, dialect: HFMapping) -> dict[str, Tensor]:
    """Return the weights under their names; several of ours that stand in one of theirs are stacked in our order."""
    stacks: dict[str, list[Tensor]] = {}
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(dialect.left_out)}
    for name, tensor in kept.items():
        stacks.setdefault(dialect.to_theirs(name), []).append(tensor.detach().cpu())
    return {name: torch.cat(parts) if len(parts) > 1 else parts[0].contiguous() for name, parts in stacks.items()}


def refuse_oversized(config: ModelConfig, theirs: Mapping[str, Tensor], folder: Path) -> None:
    """Raise ModelError where config.json asks for more weights than there are, before memory is taken for them."""
    asked = config.layers * config.block_weights + config.embedding_rows * config.hidden_size
    held = sum(tensor.numel() for tensor in theirs.values())
    if asked > held:
        raise ModelError(
            f"{folder}/config.json asks for an encoder of {asked:,} weights and more, but its files hold {held:,}; "
            "fix the config or the weights"
        )


def _is_untied(theirs: Mapping[str, Tensor], dialect: HFMapping) -> bool:
    """Say whether the output matrix is another than the word embeddings: a head for which we have no place."""
    decoder = theirs.get(dialect.decoder)
    words = next((tensor for name, tensor in theirs.items() if dialect.to_ours(name) == (WORDS,)), None)
    return decoder is not None and words is not None and not torch.equal(decoder, words)


def _of_mlm_head(ours: tuple[str, ...]) -> bool:
    return bool(ours) and ours[0].startswith("mlm_head.")


def config_of(values: Mapping[str, Any], folder: Path) -> tuple[HFMapping, ModelConfig]:
    """Return what the config.json of `folder` holds, or a part of it, as our settings; raises ModelError."""
    kind = model_type_of(values)
    if kind not in MAPPINGS:
        known = " and ".join(repr(name) for name in MAPPINGS)
        raise ModelError(f"{folder} holds a model of type {kind!r}; only {known} are supported")
    dialect = MAPPINGS[kind]
    for name, supported in dialect.must_be.items():
        if values.get(name, supported) != supported:
            raise ModelError(f"{folder}/config.json has {name} {values[name]!r}; only {supported!r} is supported")
    values = {**dialect.absent, **values}
    given = {ours: values[theirs] for theirs, ours in dialect.fields.items() if values.get(theirs) is not None}
    try:
        return dialect, dialect.config.model_validate(given | dialect.read_extra(values))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        theirs = next((theirs for theirs, ours in dialect.fields.items() if ours == place), place)
        said = f"{theirs} {requirement(problem)}".strip()
        raise ModelError(f"{folder}/config.json: {said}; correct it") from error


def their_config(config: ModelConfig, dialect: HFMapping, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return our settings as config.json holds them."""
    fixed: dict[str, Any] = {
        "architectures": [dialect.written_as],
        "model_type": dialect.model_type,
        **dialect.must_be,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
    named = {theirs: getattr(config, ours) for theirs, ours in dialect.fields.items()}
    return fixed | named | dialect.write_extra(config, tokenizer.special)


def _write_tokenizer(tokenizer: Tokenizer, config: ModelConfig, dialect: HFMapping, folder: Path) -> None:
    """Copy the tokenizer, and say in its config which of its outputs the model reads."""
    tokenizer.write(folder)
    for name in _present(tokenizer.path.parent, EXTRA_TOKENIZER_FILES):
        shutil.copyfile(tokenizer.path.parent / name, folder / name)
    special = {
        f"{kind}_token": tokenizer.tokens[getattr(tokenizer.special, kind)]
        for kind in ("pad", "unk", "cls", "sep", "mask")
    }
    file = folder / "tokenizer_config.json"
    kept = read_object(file) if file.is_file() else {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    _write_json(file, kept | {"model_max_length": config.max_positions, "model_input_names": list(dialect.inputs)})


def _present(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if (folder / name).is_file()]


def check_vocabulary(tokenizer: Tokenizer, config: ModelConfig, *, place: str) -> None:
    """Raise ModelError where the tokenizer of `place` has more tokens than the model has rows."""
    if tokenizer.vocab_size > config.vocab_size:
        raise ModelError(
            f"the tokenizer of {place} has {tokenizer.vocab_size:,} tokens but the model has room for "
            f"{config.vocab_size:,}; use the tokenizer the model was trained with"
        )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
