"""Turns a MODEL folder into tables of its settings and of its weights by part, without torch where it can."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from bertwright.errors import ModelError
from bertwright.files import read_json
from bertwright.hub.mappings.bert_names import BERT
from bertwright.hub.mappings.known import MAPPINGS, model_type_of
from bertwright.hub.sentence_layout import encoder_folder
from bertwright.log import Facts, ResultTable
from bertwright.result import Result

BLOCK = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
SIDES = ("encoder", "decoder")


def show_model(model: Path) -> Result:
    """Return the settings of a MODEL folder and its weights by part; sizes are read from the files' headers alone."""
    folder = encoder_folder(model)
    try:
        config = dict(read_json(folder / "config.json"))
        sizes = weight_sizes(folder)
        sides = [(f"{name} ", config[name]) for name in SIDES if isinstance(config.get(name), dict)] or [("", config)]
        facts = {name: fact for side, part in sides for name, fact in _facts(part, side).items()}
    except (OSError, ValueError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(f"{model} is not a whole model folder ({error}); export or download it again") from error
    parts: dict[str, list[int]] = {}
    for name, size in sizes.items():
        parts.setdefault(part_of(name), []).append(size)
    counts = {part: (len(found), sum(found)) for part, found in sorted(parts.items(), key=_in_order)}
    counts["all"] = (len(sizes), sum(sizes.values()))
    rows = [[part, f"{tensors}", f"{weights:,}"] for part, (tensors, weights) in counts.items()]
    weights = {part: {"tensors": tensors, "parameters": weights} for part, (tensors, weights) in counts.items()}
    return Result(
        {"kind": "model", "config": config, "weights": weights},
        Facts(str(model), facts),
        ResultTable("weights", ["part", "tensors", "parameters"], rows),
    )


def _facts(config: Mapping[str, Any], side: str) -> dict[str, str]:
    """Return the settings of a model, or of one side of an encoder-decoder, as they are shown."""
    called, labels = config.get("architectures") or model_type_of(config), config.get("id2label")
    mapping = MAPPINGS.get(str(model_type_of(config)), BERT)
    shape = {local: config.get(name) for name, local in mapping.fields.items()}
    names = {
        "architecture": ", ".join(map(str, called)) if isinstance(called, list) else called,
        "layers": shape["layers"],
        "width": shape["hidden_size"],
        "heads": shape["heads"],
        "inner width": shape["intermediate_size"],
        "vocabulary": config.get("vocab_size"),
        "positions": config.get("max_position_embeddings"),
        "labels": ", ".join(map(str, labels.values())) if isinstance(labels, dict) else "",
    }
    return {f"{side}{name}": f"{one:,}" if isinstance(one, int) else str(one) for name, one in names.items() if one}


def weight_sizes(model: Path) -> dict[str, int]:
    """Return the number of weights of each tensor in the files of a folder."""
    sizes: dict[str, int] = {}
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118  (a reader, not a mapping)
                sizes[name] = int(np.prod(weights.get_slice(name).get_shape()))
    if not sizes:
        from bertwright.hub.weights import read_tensors

        sizes = {name: tensor.numel() for name, tensor in read_tensors(model).items()}
    return sizes


def part_of(name: str) -> str:
    """Return the part of the model a tensor belongs to.

    >>> part_of("bert.encoder.layer.3.output.dense.weight"), part_of("model.layers.3.attn.Wo.weight")
    ('encoder layer 3', 'encoder layer 3')
    """
    words = name.split(".")
    side = "decoder" if words[0] == "decoder" and len(words) > 2 else "encoder"
    if found := BLOCK.search(name):
        return f"{side} layer {found[1]}"
    prefixes = {mapping.prefix.removesuffix(".") for mapping in MAPPINGS.values()}
    inner = [word for word in words if word not in {*prefixes, *(SIDES if len(words) > 2 else ())}]
    part = ".".join(inner[:2]) if inner[0] == "cls" else inner[0]
    return f"decoder {part}" if side == "decoder" else part


def _in_order(part: tuple[str, list[int]]) -> tuple[int, str, int]:
    """Sort embeddings, layers by their number, then the rest."""
    name, _, number = part[0].rpartition(" layer ")
    return (1, name, int(number)) if name else (0 if part[0].endswith("embeddings") else 2, part[0], 0)
