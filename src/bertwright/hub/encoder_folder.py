"""Turns a model into a Hugging Face folder and back: the only format models are kept in.

What is written loads in stock transformers as the class of its architecture with a masked-token head, such as
BertForPreTraining, as AutoModel and so on; what is read may be a folder of any architecture of `MAPPINGS`, whatever
heads it has.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from bertwright.config import requirement
from bertwright.errors import ModelError
from bertwright.files import write_json, written_aside
from bertwright.hub.mappings.known import MAPPINGS, mapping_of, model_type_of
from bertwright.hub.mappings.mapping import HFMapping
from bertwright.hub.reference_outputs import KnownHead, ReadEncoder, write_reference
from bertwright.hub.sentence_layout import encoder_folder
from bertwright.hub.weights import WEIGHTS, read_object, read_tensors
from bertwright.log import note
from bertwright.model.bert_family import Electra
from bertwright.model.build import build_encoder
from bertwright.model.config import ModelConfig
from bertwright.model.decoder import Decoder
from bertwright.model.encoder import Encoder, HeadType
from bertwright.model.random_state import kept_random_state
from bertwright.tokenizer.load import Tokenizer, has_tokenizer, load_tokenizer

WORDS = "embeddings.words.weight"
"""Our name of the word embeddings."""
GENERATOR = "model-generator"
"""What the folder of ELECTRA's generator is called, beside RUN/model."""
HARMLESS = ("position_ids", "token_type_ids", "pooler.dense.weight", "pooler.dense.bias", "position_embeddings.weight")
"""Ends of names of an encoder that may have no place: numbers counted up, and what a class does without, as
transformers does: a pooler, and the position embeddings of DeBERTa-v3, which were read in its pre-training alone."""
EXTRA_TOKENIZER_FILES = ("vocab.txt", "special_tokens_map.json", "tokenizer_config.json")
"""Files of a tokenizer folder that travel with its tokenizer.json."""


@dataclass(frozen=True)
class LoadReport:
    """What did not match when a folder was read.

    initialised  our names of weights the folder lacks, drawn at random: heads alone
    unused       weights of heads that pre-training has no place for, such as a classifier, by their Hugging Face names
    """

    initialised: tuple[str, ...]
    unused: Mapping[str, Tensor]

    @property
    def left_out(self) -> list[str]:
        """The heads of `unused`, by the first part of their Hugging Face names."""
        return sorted({name.split(".")[0] for name in self.unused if not name.endswith(HARMLESS)})

    def lacks(self, head: str) -> bool:
        """Say whether weights of a head, "mlm_head", "nsp_head" or "rtd_head", were not read."""
        return any(name.startswith(f"{head}.") for name in self.initialised)


def save_model(
    model: Encoder,
    tokenizer: Path,
    out: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    card: str | None = None,
) -> None:
    """Write `model` to the folder `out` as its Hugging Face class, whole or not at all.

    `tokenizer` is a tokenizer.json or a folder that has one; it is copied byte for byte. `settings` are laid over its
    config.json. `card` becomes README.md. A tied output matrix is left out, as transformers does. Raises ModelError
    where the tokenizer has more tokens than the model.
    """
    tensors = {WEIGHTS: hf_tensors(model, mapping_of(model.config))}
    write_folder(out, model.config, load_tokenizer(tokenizer), tensors=tensors, settings=settings, card=card)


def write_folder(
    out: Path,
    config: ModelConfig,
    tokenizer: Tokenizer,
    *,
    tensors: Mapping[str, dict[str, Tensor]],
    settings: Mapping[str, Any] | None = None,
    files: Mapping[str, Any] | None = None,
    card: str | None = None,
    read: ReadEncoder | None = None,
) -> None:
    """Write the Hugging Face folder of an encoder of `config` and its tokenizer, whole or not at all.

    `tensors` are safetensors files by name, weights under Hugging Face's names; transformers reads model.safetensors
    alone. `settings` are laid over the config.json of the encoder, such as what a fine-tuned model says of its head;
    `files` are further JSON files by path, or another config.json. Checksums are written too, and what the encoder that
    `read(folder)` finds in it gives for a few tokens; `read_encoder` where not given. Raises ModelError where the
    tokenizer has more tokens than the model.
    """
    check_vocabulary(tokenizer, config, place=str(tokenizer.path))
    mapping = mapping_of(config)
    objects = {"config.json": hf_config(config, mapping, tokenizer) | dict(settings or {}), **(files or {})}
    with written_aside(out) as folder:
        folder.mkdir()
        for name, held in tensors.items():
            save_file(held, folder / name, metadata={"format": "pt"})
        for name, value in objects.items():
            write_json(folder / name, value)
        _write_tokenizer(tokenizer, config, mapping, folder)
        if card is not None:
            (folder / "README.md").write_text(card, encoding="utf-8")
        write_reference(folder, read or read_encoder)


def read_encoder(folder: Path) -> tuple[Encoder, KnownHead]:
    """Return the encoder of a folder, and which head it has: for masked tokens, or for replaced ones; or None."""
    model, report = read_model(folder)
    if report.lacks("mlm_head"):
        return model, "rtd" if finds_replaced(model, report) else None
    return model, "mlm"


def finds_replaced(model: Encoder, report: LoadReport) -> bool:
    """Say whether a model says which tokens were replaced, by a head that was read from its folder."""
    return isinstance(model, Electra) and model.config.discriminator and not report.lacks("rtd_head")


@kept_random_state()
def load_model(folder: Path) -> Encoder:
    """Return the model of a Hugging Face folder, in evaluation mode, on the CPU, in float32.

    Weights of missing heads are drawn at random, and a note says so. Raises ModelError as `read_model` does.

    >>> load_model(Path("runs/en/model")).config.hidden_size  # needs a model  # doctest: +SKIP
    256
    """
    model, report = read_model(folder)
    if heads := report.left_out:
        note(f"{folder} has heads that no pre-trained model has a place for, left out: {', '.join(heads)}")
    if report.initialised:
        heads = sorted({name.split(".")[0] for name in report.initialised})
        note(f"{folder} has no weights for {', '.join(heads)}: drawn at random, of no use until trained")
    return model


def read_model(folder: Path) -> tuple[Encoder, LoadReport]:
    """Return the model of a Hugging Face folder of a known architecture, in evaluation mode, and what did not match.

    Raises ModelError where the folder is not a whole model of the kinds supported (see `must_be` of `HFMapping`), its
    weights do not fit its config.json, or its tokenizer has more tokens than the model.
    """
    folder, mapping, config = _config_in(folder)
    return read_weights(folder, config, mapping)


def read_config(folder: Path) -> ModelConfig:
    """Return the settings of the encoder in a folder, its weights left alone; raises ModelError as `read_model` does.

    >>> read_config(Path("runs/en/model")).hidden_size  # needs a model  # doctest: +SKIP
    256
    """
    return _config_in(folder)[2]


def _config_in(folder: Path) -> tuple[Path, HFMapping, ModelConfig]:
    """Return the folder of the encoder itself, the mapping of its names, and its settings."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder; give the Hugging Face folder of an encoder")
    folder = encoder_folder(folder)
    values = read_object(folder / "config.json")
    mapping, config = config_of(values, folder)
    return folder, mapping.with_head(head_type_in(values, mapping)), config


def head_type_in(values: Mapping[str, Any], mapping: HFMapping) -> HeadType | None:
    """Return the type of the task's head that a config.json names, or None where it names none."""
    named = values.get("architectures")
    types: dict[str, HeadType] = {name: head_type for head_type, name in mapping.fine_tuned_as.items()}
    classes = named if isinstance(named, list) else []
    return next((types[name] for name in classes if isinstance(name, str) and name in types), None)


def read_weights(folder: Path, config: ModelConfig, mapping: HFMapping) -> tuple[Encoder, LoadReport]:
    """Return a model of `config` with the weights of `folder`, named as `mapping` says, as `read_model` does."""
    if has_tokenizer(folder):
        check_vocabulary(load_tokenizer(folder), config, place=str(folder))
    found = read_tensors(folder)
    tied = mapping.decoder not in found or (config.tie_word_embeddings and not is_untied(found, mapping))
    if tied:
        found.pop(mapping.decoder, None)
    if mapping.decoder_bias in found:  # read last, it wins over one that some heads hold beside it, unused
        found[mapping.decoder_bias] = found.pop(mapping.decoder_bias)
    config = config.model_copy(update={"tie_word_embeddings": tied})
    refuse_oversized(config, found, folder)
    model = build_encoder(config)
    report = load_weights(model, found, mapping, folder)
    return model.eval(), report


def load_weights(
    model: Encoder | Decoder, weights: Mapping[str, Tensor], mapping: HFMapping, folder: Path, *, side: str = "encoder"
) -> LoadReport:
    """Put the weights of a folder, by their Hugging Face names, into `model`; return what did not match.

    Raises ModelError where one has another shape than the model, one of the encoder itself has no place in it, or one
    is missing that is not of a head. `side` is what messages call the model.
    """
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    unused: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        local = mapping.to_local(name)
        unknown = [part for part in local if part not in wanted]
        if any(part.startswith("blocks.") for part in unknown):
            raise ModelError(
                f"{folder} holds {name}, which its config.json ({model.config.layers} layers) has no place for; "
                "fix the config or the weights"
            )
        if not local or unknown:
            if mapping.is_encoders(name) and not name.endswith(HARMLESS):
                raise ModelError(
                    f"{folder} holds {name}, which no {mapping.bare} has; give a folder without such additions, for "
                    "example adapters merged into their weights"
                )
            unused[name] = tensor
            continue
        shape = list(wanted[local[0]].shape)
        shape[0] *= len(local)
        if list(tensor.shape) != shape:
            raise ModelError(
                f"{name} in {folder} has shape {list(tensor.shape)} but its config.json asks for {shape}; "
                "fix the config or the weights"
            )
        found.update(zip(local, tensor.to(torch.float32).chunk(len(local)), strict=True))
    missing = [name for name in wanted if name not in found]
    lost = [name for name in missing if not name.startswith(mapping.heads)]
    if lost:
        raise ModelError(
            f"{folder} lacks {len(lost)} weights of the {side}, such as {mapping.to_hf(lost[0])}; "
            "give a whole Hugging Face folder"
        )
    model.load_state_dict(found, strict=False)
    return LoadReport(initialised=tuple(missing), unused=unused)


def hf_tensors(model: Encoder | Decoder, mapping: HFMapping) -> dict[str, Tensor]:
    """Return the weights by their Hugging Face names; several of ours that stand in one are stacked in our order."""
    stacks: dict[str, list[Tensor]] = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith(mapping.left_out):
            stacks.setdefault(mapping.to_hf(name), []).append(tensor.detach().cpu())
    tensors = {name: torch.cat(parts) if len(parts) > 1 else parts[0].contiguous() for name, parts in stacks.items()}
    if mapping.decoder in tensors:  # an untied matrix has a bias of its own
        tensors[mapping.decoder_bias] = tensors[mapping.to_hf("mlm_head.bias")].clone()
    return tensors


def refuse_oversized(config: ModelConfig, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Raise ModelError where config.json asks for more weights than there are, before memory is taken for them."""
    needed = config.layers * config.block_weights + config.embedding_rows * config.embedding_width
    held = sum(tensor.numel() for tensor in weights.values())
    if needed > held:
        raise ModelError(
            f"{folder}/config.json asks for an encoder of {needed:,} weights and more, but its files hold {held:,}; "
            "fix the config or the weights"
        )


def is_untied(weights: Mapping[str, Tensor], mapping: HFMapping) -> bool:
    """Say whether the output matrix is there, and is another than the word embeddings."""
    decoder = weights.get(mapping.decoder)
    words = next((tensor for name, tensor in weights.items() if mapping.to_local(name) == (WORDS,)), None)
    return decoder is not None and words is not None and not torch.equal(decoder, words)


def config_of(values: Mapping[str, Any], folder: Path) -> tuple[HFMapping, ModelConfig]:
    """Return what the config.json of `folder` holds, or a part of it, as our settings; raises ModelError."""
    kind = model_type_of(values)
    if kind not in MAPPINGS:
        known = ", ".join(repr(name) for name in MAPPINGS)
        raise ModelError(f"{folder} holds a model of type {kind!r}; the known ones are {known}: give one of these")
    mapping = MAPPINGS[kind]
    values = {**mapping.absent, **values}
    for name, supported in mapping.must_be.items():
        if values.get(name, supported) != supported:
            raise ModelError(f"{folder}/config.json has {name} {values[name]!r}; only {supported!r} is supported")
    given = {local: values[hf] for hf, local in mapping.fields.items() if values.get(hf) is not None}
    try:
        config = mapping.config.model_validate(given | mapping.read_extra(values))
        return mapping_of(config), config
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        field = next((hf for hf, local in mapping.fields.items() if local == place), place)
        wrong = f"{field} {requirement(problem)}".strip()
        raise ModelError(f"{folder}/config.json: {wrong}; correct it") from error


def hf_config(config: ModelConfig, mapping: HFMapping, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return our settings as config.json holds them."""
    fixed: dict[str, Any] = {
        "architectures": [mapping.written_as],
        "model_type": mapping.model_type,
        **mapping.must_be,
        "dtype": "float32",
    }
    named = {hf: getattr(config, local) for hf, local in mapping.fields.items()}
    return fixed | named | mapping.write_extra(config, tokenizer.special)


def _write_tokenizer(tokenizer: Tokenizer, config: ModelConfig, mapping: HFMapping, folder: Path) -> None:
    """Copy the tokenizer, and say in its config which of its outputs the model reads."""
    tokenizer.write(folder)
    for name in EXTRA_TOKENIZER_FILES:
        if (tokenizer.path.parent / name).is_file():
            shutil.copyfile(tokenizer.path.parent / name, folder / name)
    special = {
        f"{kind}_token": tokenizer.tokens[getattr(tokenizer.special, kind)]
        for kind in ("pad", "unk", "cls", "sep", "mask")
    }
    file = folder / "tokenizer_config.json"
    kept = read_object(file) if file.is_file() else {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    write_json(file, kept | {"model_max_length": config.max_positions, "model_input_names": list(mapping.inputs)})


def check_vocabulary(tokenizer: Tokenizer, config: ModelConfig, *, place: str) -> None:
    """Raise ModelError where the tokenizer of `place` has more tokens than the model has rows."""
    if tokenizer.vocab_size > config.vocab_size:
        raise ModelError(
            f"the tokenizer of {place} has {tokenizer.vocab_size:,} tokens but the model has room for "
            f"{config.vocab_size:,}; use the tokenizer the model was trained with"
        )
