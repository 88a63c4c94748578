"""Turns a model folder of any kind into what can be looked at: encoder, heads, vectors, predictions and reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertwright.device import pick_device
from bertwright.errors import UsageError
from bertwright.hub.encoder_decoder_folder import is_encoder_decoder
from bertwright.hub.encoder_folder import finds_replaced
from bertwright.hub.nsp_folder import is_next_sentence_folder, tells_order
from bertwright.hub.onnx.onnx_folder import is_onnx_folder
from bertwright.hub.sentence_folder import read_sentence_folder
from bertwright.hub.sentence_layout import is_sentence_folder
from bertwright.hub.task_folder import head_type_of, read_fine_tuned
from bertwright.inference.base import Predictor
from bertwright.inference.predictors import open_predictor, read_pretrained
from bertwright.inspection.explain import Explainer, PretrainedExplainer, explainer_of
from bertwright.model.encoder import Encoder
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.types import TokenRows


@dataclass(frozen=True)
class InspectedModel:
    """A model in evaluation mode, on the fastest device.

    name         what it is called
    max_length   tokens of the longest row
    fills_masks, tells_pairs, tells_order   what its heads of pre-training do, if it has them
    vectors_by   gives the vector of a row; None for the mean of the last hidden states
    predictor    does its task; None where it has none
    explainer    explains predictions; None where these are of a kind that is not explained
    """

    folder: Path
    name: str
    encoder: Encoder
    tokenizer: Tokenizer
    max_length: int
    fills_masks: bool = False
    tells_pairs: bool = False
    tells_order: bool = False
    vectors_by: SentenceEncoder | None = None
    predictor: Predictor | None = None
    explainer: Explainer | None = None

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.encoder.word_embeddings.weight.device

    @property
    def task(self) -> str | None:
        """The name of its task, if it has one."""
        found = getattr(self.predictor, "task", None)
        return None if found is None else str(found.name)

    @property
    def threshold(self) -> float | None:
        """How far no answer must be above the best span, of a model that may answer nothing."""
        settings = getattr(getattr(self.predictor, "task", None), "settings", None)
        return None if settings is None else settings.no_answer_threshold

    @torch.no_grad()
    def vector(self, rows: TokenRows, last: torch.Tensor) -> np.ndarray:
        """Return the vector [H] of a row, of length one, from the row and its last hidden states [1, S, H]."""
        found = last.mean(1) if self.vectors_by is None else self.vectors_by(rows)
        vector: np.ndarray = torch.nn.functional.normalize(found.float(), dim=-1)[0].cpu().numpy()
        return vector

    def predict(self, texts: Sequence[str]) -> dict[str, Any] | None:
        """Return what it predicts of a text or a pair by the head of its task; None where it has none."""
        return None if self.predictor is None else self.predictor.predict([tuple(texts)])[0]


def open_inspected(folder: Path, *, name: str | None = None) -> InspectedModel:
    """Return the model of a folder, called as the folder is where no `name` is given.

    Raises UsageError for a translator or an exported model, and ModelError where the folder is not a whole model.
    """
    if is_onnx_folder(folder) or is_encoder_decoder(folder):
        raise UsageError(
            f"{folder} is no encoder run by torch, and only inside of such can be looked; give a MODEL folder"
        )
    name, device = name or _name_of(folder), pick_device()
    if is_sentence_folder(folder):
        encoder, reading = read_sentence_folder(folder)
        model = SentenceEncoder(encoder, pooling=reading.pooling, normalize=reading.normalize, skip=reading.skip)
        model.eval().to(device)
        longest = reading.max_length
        return InspectedModel(folder, name, encoder, load_tokenizer(folder), longest, vectors_by=model)
    if folder.is_dir() and head_type_of(folder) is not None and not is_next_sentence_folder(folder):
        return _fine_tuned(folder, name)
    encoder, report = read_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    return InspectedModel(
        folder,
        name,
        encoder.to(device),
        tokenizer,
        encoder.config.max_positions,
        fills_masks=not report.lacks("mlm_head") and not finds_replaced(encoder, report),
        tells_pairs=encoder.has_nsp_head and not report.lacks("nsp_head"),
        tells_order=tells_order(folder),
        explainer=PretrainedExplainer(folder, encoder, tokenizer, report),
    )


def _fine_tuned(folder: Path, name: str) -> InspectedModel:
    opened = read_fine_tuned(folder)
    encoder = opened.model.to(pick_device()).encoder
    return InspectedModel(
        folder,
        name,
        encoder,
        load_tokenizer(folder),
        opened.max_length,
        predictor=open_predictor(folder),
        explainer=explainer_of(folder, opened),
    )


def _name_of(folder: Path) -> str:
    """Return what a model is called: its folder, with the run before it where that is RUN/model."""
    whole = folder.resolve()
    return f"{whole.parent.name}/{whole.name}" if whole.name.startswith("model") else whole.name
