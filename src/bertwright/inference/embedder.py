"""Turns the model of a folder into a function from texts to vectors: torch's, or without torch an exported one.

texts -> rows -> batches by length -> hidden states of a layer -> pooled -> vectors, in order
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bertwright.errors import ModelError, UsageError
from bertwright.hub.onnx.onnx_folder import OnnxFolder, is_onnx_folder, open_onnx
from bertwright.inference.batching import BatchPolicy, Done, Forward, cpu_policy, vectors_of
from bertwright.log import note
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer

if TYPE_CHECKING:
    from bertwright.model.sentence_encoder import Pooling


@dataclass(frozen=True)
class Embedder:
    """A model that turns texts into vectors, with its tokenizer.

    forward  gives the vectors [B, H] or [B, 1, H] float32 of a batch of rows
    policy   how rows are batched
    width    H, the length of a vector
    layer    the hidden states that are pooled: 0 for the embeddings, then one a block

    >>> # needs a model
    >>> open_embedder(Path("runs/en/model")).vectors(["A text.", "Another one."]).shape  # doctest: +SKIP
    (2, 256)
    """

    folder: Path
    encoder: TextEncoder
    forward: Forward[np.ndarray]
    policy: BatchPolicy
    width: int
    layer: int
    pooling: Pooling
    normalize: bool

    def vectors(self, texts: Sequence[str], done: Done = lambda _: None) -> np.ndarray:
        """Return vectors [N, H] float32 of N texts; those past the longest row are cut, and counted by the encoder."""
        if not texts:
            return np.empty((0, self.width), dtype=np.float32)
        rows = self.encoder.rows(texts, None, np.zeros(len(texts), dtype=np.int64), quiet=True)
        return vectors_of(self.forward, rows, width=self.width, policy=self.policy, done=done)

    def note_cut(self) -> None:
        """Say how many texts were too long so far, if any."""
        if self.encoder.cut:
            note(f"{self.encoder.cut:,} texts are longer than {self.encoder.max_length} tokens and were cut")


def open_embedder(
    folder: Path,
    *,
    layer: int | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    precision: Literal["bf16", "fp32"] = "fp32",
) -> Embedder:
    """Read a model folder onto the fastest device; what is not given is as the folder says, see `embed`.

    Raises UsageError for a layer or pooling there is none of, or that an exported model was not written with, and
    ModelError or TokenizerError for a folder that is unfit.
    """
    if is_onnx_folder(folder):
        opened = open_onnx(folder)
        _require_exported(opened, layer=layer, pooling=pooling, normalize=normalize, precision=precision)
        return exported_embedder(opened)
    from bertwright.device import autocast, pick_device
    from bertwright.hub.sentence_folder import read_sentence_folder
    from bertwright.inference.scoring import task_forward, vector_policy
    from bertwright.model.sentence_encoder import POOLINGS, SentenceEncoder

    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}; give a Hugging Face folder of an encoder")
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
        task_forward(model, device=device, cast=partial(autocast, precision, device)),
        vector_policy(device),
        width=encoder.config.hidden_size,
        layer=model.layer,
        pooling=model.pooling,
        normalize=model.normalize,
    )


def exported_embedder(opened: OnnxFolder) -> Embedder:
    """Return the embedder of an exported model of sentence vectors, which onnxruntime runs on all cores."""
    return Embedder(
        opened.folder,
        TextEncoder(
            load_tokenizer(opened.folder), max_length=opened.max_length, prompt=str(opened.about.get("prompt", ""))
        ),
        opened.logits,
        cpu_policy(),
        width=opened.width,
        layer=opened.about["layer"],
        pooling=opened.about["pooling"],
        normalize=opened.about["normalize"],
    )


def _require_exported(
    opened: OnnxFolder, *, layer: int | None, pooling: str | None, normalize: bool | None, precision: str
) -> None:
    """Raise ModelError where a graph gives no vectors, and UsageError where it gives others than those wanted."""
    if opened.head_type != "vector":
        raise ModelError(f"{opened.folder} was exported with a head and gives no vectors; give a model that has them")
    has = opened.about
    fitting = {
        f"--layer {layer}": layer in (None, -1, has["layer"]),
        f"--pooling {pooling}": pooling in (None, has["pooling"]),
        "--normalize" if normalize else "--no-normalize": normalize in (None, has["normalize"]),
        f"--precision {precision}": precision == "fp32",
    }
    unfit = [name for name, fits in fitting.items() if not fits]
    if unfit:
        raise UsageError(
            f"{opened.folder} cannot be run with {' '.join(unfit)}: an exported graph is of layer {has['layer']}, "
            f"pooling {has['pooling']}, {'unit length' if has['normalize'] else 'length as it comes'} and fp32; give "
            "the folder it was exported from"
        )
