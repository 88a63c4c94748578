"""Turns arrays into the outputs of an exported model, by onnxruntime alone: nothing here imports torch.

DIR/  model.onnx  onnx.json (inputs, outputs, labels, how it was checked)  tokenizer.json  config.json
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bertwright.errors import ModelError, UsageError
from bertwright.files import read_json
from bertwright.log import note

if TYPE_CHECKING:
    from bertwright.model.encoder import HeadType
    from bertwright.model.task_model import Problem

MODEL, ABOUT = "model.onnx", "onnx.json"
INPUTS = {"input_ids", "token_type_ids", "attention_mask", "asked"}
"""The inputs that graphs of bertwright may have."""
SAME_EVERYWHERE = "same_on_every_cpu"
"""The key of onnx.json for graphs of 8-bit integers whose sums no CPU cuts off; those of earlier versions lack it."""
ABOUT_HEAD = ("part", "problem", "labels", "max_length")
"""What onnx.json holds for every head."""
LONGEST_ROW = 1 << 20
NEXT_SENTENCE = "next_sentence"
"""The key of its extra settings that sets a next-sentence head apart from any other classifier of two labels."""
SENTENCE_ORDER = "sentence_order"
"""The same of a head that says whether two segments stand in the order of the text; BERT's beside its other head."""
SLOW_FUSIONS = ["SkipLayerNormFusion"]
"""Optimisations of onnxruntime not wanted: its sum with LayerNorm takes ten times what the two take singly (1.32)."""


@dataclass(frozen=True)
class OnnxFolder:
    """An exported model, ready to run.

    about holds all of onnx.json.
    """

    folder: Path
    session: Any
    about: dict[str, Any]

    @property
    def head_type(self) -> HeadType | Literal["vector"] | None:
        """The type of its head, "vector" for sentence vectors, or None for a pre-trained model."""
        head_type: HeadType | Literal["vector"] | None = self.about["part"]
        return head_type

    @property
    def problem(self) -> Problem:
        """What Hugging Face calls the kind of its loss."""
        problem: Problem = self.about["problem"]
        return problem

    @property
    def extra_config(self) -> dict[str, Any]:
        """The settings that its task keeps."""
        return dict(self.about.get("own") or {})

    @property
    def has_nsp_head(self) -> bool:
        """Whether it is a classifier of whether a text follows another, or of the order of two."""
        about_pairs = self.extra_config.get(NEXT_SENTENCE) is True or self.tells_order
        return self.head_type == "row" and about_pairs

    @property
    def tells_order(self) -> bool:
        """Whether its head for pairs says if they are in order, not if the second follows."""
        return self.extra_config.get(SENTENCE_ORDER) is True

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its outputs."""
        return tuple(self.about["labels"])

    @property
    def max_length(self) -> int:
        """Tokens of the longest row it reads."""
        return int(self.about["max_length"])

    @property
    def width(self) -> int:
        """Numbers of a sentence vector."""
        return int(self.session.get_outputs()[0].shape[-1])

    def logits(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """Return logits [B, M, outputs] at the positions `asked`, or at all, from the arrays of `LabelledRows.arrays`.

        Sentence vectors are [B, 1, width].
        """
        logits = self.run(arrays)[0]
        if logits.ndim == 3 and "asked" in arrays and "asked" not in self.about["inputs"]:
            return np.take_along_axis(logits, arrays["asked"][:, :, None], axis=1)
        return logits[:, None] if logits.ndim == 2 else logits

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Return every output of the graph, in the order of onnx.json."""
        try:
            outputs: list[np.ndarray] = self.session.run(None, self.inputs(arrays))
        except Exception as error:  # as in `open_session`
            raise ModelError(f"the graph of {self.folder} cannot be run ({error}); export the model again") from error
        return outputs

    def inputs(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what the graph reads of a batch, by name."""
        return {name: arrays[name].astype(np.int64, copy=False) for name in self.about["inputs"]}


def is_onnx_folder(folder: Path) -> bool:
    """Say whether `folder` is one that `bertwright export` wrote."""
    return (folder / ABOUT).is_file()


def open_onnx(folder: Path, *, threads: int = 1) -> OnnxFolder:
    """Return the exported model of a folder; each call of its session runs on so many threads.

    Raises ModelError where the folder is damaged, and UsageError where onnxruntime is not installed.

    >>> open_onnx(Path("sentiment.onnx")).labels  # needs a model  # doctest: +SKIP
    ('negative', 'positive')
    """
    try:
        about = read_json(folder / ABOUT)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / ABOUT} cannot be read ({error}); export the model again") from error
    session = open_session(folder / MODEL, threads=threads)
    if not _is_about(about, session):
        raise ModelError(f"{folder / ABOUT} is not about the graph in {MODEL}; export the model again")
    if about.get("quantized") == "int8" and about.get(SAME_EVERYWHERE) is not True:
        note(
            f"{folder} is of an earlier version: on a CPU without VNNI its answers can be wrong; export the model again"
        )
    return OnnxFolder(folder, session, about)


def _is_about(about: Any, session: Any) -> bool:
    """Say whether onnx.json holds what it must, and names the inputs and outputs that the graph has."""
    if not isinstance(about, dict) or not about.keys() >= {*ABOUT_HEAD, "inputs", "outputs"}:
        return False
    objects = (about["inputs"], about["outputs"], about.get("own") or {})
    inputs, outputs, labels, longest = (about[name] for name in ("inputs", "outputs", "labels", "max_length"))
    if not all(isinstance(one, dict) for one in objects) or not _are_names(labels):
        return False
    if not isinstance(longest, int) or not 0 < longest <= LONGEST_ROW:
        return False
    width = session.get_outputs()[0].shape[-1]
    return (
        set(inputs) == {one.name for one in session.get_inputs()}
        and list(outputs) == [one.name for one in session.get_outputs()]
        and set(inputs) <= INPUTS
        and (about["part"] != "vector" or _has_pooling(about, width))
        and (about["part"] in (None, "choice", "span", "vector") or not isinstance(width, int) or len(labels) == width)
    )


def _has_pooling(about: dict[str, Any], width: Any) -> bool:
    """Say whether onnx.json holds how sentence vectors are made, and the graph how wide they are."""
    values = (about.get(name) for name in ("pooling", "normalize", "layer"))
    return isinstance(width, int) and [type(one) for one in values] == [str, bool, int]


def _are_names(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def open_session(file: Path, *, threads: int = 1) -> Any:
    """Return an onnxruntime session on the CPU; raises as `open_onnx` does."""
    onnxruntime = require("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # its warnings are about graphs of other makers
    try:
        return onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
        )
    except Exception as error:  # onnxruntime raises another class for each kind of damage
        raise ModelError(f"onnxruntime cannot open {file} ({error}); export the model again") from error


def require(package: str) -> Any:
    """Import a package of the extra `export`, or raise UsageError saying how to install it."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UsageError(f"this needs {package}: pip install 'bertwright[export]'") from error
