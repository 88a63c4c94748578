"""Turns the model of a folder into a function from texts to vectors: torch's, or without torch an exported one.

texts -> rows -> batches by length -> hidden states of a layer -> pooled -> vectors, in order
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import ModelError, UsageError
from bertwright.hub.onnx.onnx_folder import OnnxFolder, is_onnx_folder, open_onnx
from bertwright.inference.batching import cpu_policy, in_batches
from bertwright.log import note
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer

if TYPE_CHECKING:
    from bertwright.model.sentence_encoder import Pooling

Done = Callable[[int], None]
"""Hears of texts that are embedded."""


@dataclass(frozen=True)
class Embedder:
    """A model that turns texts into vectors, with its tokenizer.

    ask      gives the vectors [N, H] float32 of N rows, and tells of each batch how many rows it had
    width    H, the length of a vector
    layer    the hidden states that are pooled: 0 for the embeddings, then one a block

    >>> # needs a model
    >>> open_embedder(Path("runs/en/model")).vectors(["A text.", "Another one."]).shape  # doctest: +SKIP
    (2, 256)
    """

    folder: Path
    encoder: TextEncoder
    ask: Callable[[LabelledRows, Done], np.ndarray]
    width: int
    layer: int
    pooling: Pooling
    normalize: bool

    def vectors(self, texts: Sequence[str], done: Done = lambda _: None) -> np.ndarray:
        """Return vectors [N, H] float32 of N texts; those past the longest row are cut, and counted by the encoder."""
        if not texts:
            return np.empty((0, self.width), dtype=np.float32)
        return self.ask(self.encoder.rows(texts, None, np.zeros(len(texts), dtype=np.int64), quiet=True), done)


def open_embedder(
    folder: Path,
    *,
    layer: int | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    precision: Literal["bf16", "fp32"] = "fp32",
) -> Embedder:
    """Read a model folder onto the fastest device; what is not told is as the folder says, see `embed`.

    Raises UsageError for a layer or pooling there is none of, or that an exported model was not written with, and
    ModelError or TokenizerError for a folder that is unfit.
    """
    if is_onnx_folder(folder):
        opened = open_onnx(folder)
        _require_exported(opened, layer=layer, pooling=pooling, normalize=normalize, precision=precision)
        return exported_embedder(opened)
    from bertwright.device import autocast, pick_device
    from bertwright.hub.sentence_folder import read_sentence_folder
    from bertwright.inference.vectors import row_vectors
    from bertwright.model.sentence_encoder import POOLINGS, SentenceEncoder

    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}; give a Hugging Face BERT or ModernBERT folder")
    if pooling is not None and pooling not in POOLINGS:
        raise UsageError(f"--pooling {pooling} is none of {', '.join(POOLINGS)}")
    encoder, reading = read_sentence_folder(folder)
    layers = encoder.config.layers
    if layer is not None and not -layers - 1 <= layer <= layers:
        raise UsageError(
            f"--layer {layer}: {folder} has layers 0 (the embeddings) to {layers}, or -1 (the last) to {-layers - 1}"
        )
    device = pick_device()
    model = SentenceEncoder(
        encoder,
        pooling=pooling or reading.pooling,
        normalize=reading.normalize if normalize is None else normalize,
        layer=None if layer is None else layer % (layers + 1),
        skip=reading.skip,
    )
    if reading.prompts.text:
        note(f"{folder} puts its prompt {reading.prompts.default!r} before each text: {reading.prompts.text!r}")
    model.eval().to(device)
    return Embedder(
        folder,
        TextEncoder(load_tokenizer(folder), max_length=reading.max_length, prompt=reading.prompts.text),
        lambda rows, done: row_vectors(model, rows, device=device, cast=lambda: autocast(precision, device), done=done),
        width=encoder.config.hidden_size,
        layer=model.layer,
        pooling=model.pooling,
        normalize=model.normalize,
    )


def exported_embedder(opened: OnnxFolder) -> Embedder:
    """Return the embedder of an exported model of sentence vectors, which onnxruntime runs on all cores."""

    def ask(rows: LabelledRows, done: Done) -> np.ndarray:
        vectors = np.empty((len(rows), opened.width), dtype=np.float32)
        for places, answer in in_batches(opened.ask, rows, pace=cpu_policy()):
            vectors[places] = answer[:, 0]
            done(len(places))
        return vectors

    return Embedder(
        opened.folder,
        TextEncoder(
            load_tokenizer(opened.folder), max_length=opened.max_length, prompt=str(opened.about.get("prompt", ""))
        ),
        ask,
        width=opened.width,
        layer=opened.about["layer"],
        pooling=opened.about["pooling"],
        normalize=opened.about["normalize"],
    )


def _require_exported(
    opened: OnnxFolder, *, layer: int | None, pooling: str | None, normalize: bool | None, precision: str
) -> None:
    """Raise ModelError where a graph gives no vectors, and UsageError where it gives others than those told."""
    if opened.part != "vector":
        raise ModelError(f"{opened.folder} was exported with a head and gives no vectors; give a model that has them")
    has = opened.about
    told = {
        f"--layer {layer}": layer in (None, -1, has["layer"]),
        f"--pooling {pooling}": pooling in (None, has["pooling"]),
        "--normalize" if normalize else "--no-normalize": normalize in (None, has["normalize"]),
        f"--precision {precision}": precision == "fp32",
    }
    unfit = [name for name, fits in told.items() if not fits]
    if unfit:
        raise UsageError(
            f"{opened.folder} cannot be asked with {' '.join(unfit)}: an exported graph is of layer {has['layer']}, "
            f"pooling {has['pooling']}, {'unit length' if has['normalize'] else 'length as it comes'} and fp32; give "
            "the folder it was exported from"
        )
