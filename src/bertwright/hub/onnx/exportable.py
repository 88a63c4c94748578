"""Turns a model folder into what is exported: the network in float32, and what onnx.json will hold of its head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertwright.errors import ModelError, UsageError
from bertwright.hub.encoder_decoder_folder import is_encoder_decoder
from bertwright.hub.encoder_folder import read_model
from bertwright.hub.nsp_folder import lacks_head, tells_order
from bertwright.hub.onnx.onnx_folder import SENTENCE_ORDER
from bertwright.hub.sentence_folder import read_sentence_folder
from bertwright.hub.sentence_layout import encoder_folder, is_sentence_folder
from bertwright.hub.task_folder import head_type_of, read_fine_tuned
from bertwright.model.encoder import Encoder
from bertwright.model.random_state import kept_random_state
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.tokenizer.load import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class Exportable:
    """A model to export, in evaluation mode.

    folder     where its config.json and tokenizer lie
    model      the network
    tokenizer  its tokenizer
    about      what onnx.json will hold of its head
    """

    folder: Path
    model: FineTuned | SentenceEncoder | Encoder
    tokenizer: Tokenizer
    about: dict[str, Any]


@kept_random_state()
def open_exportable(folder: Path) -> Exportable:
    """Return the model of a folder; raises UsageError or ModelError where it cannot be exported."""
    if is_encoder_decoder(folder):
        raise UsageError(f"{folder} translates, which is not exported to ONNX; give an encoder")
    if is_sentence_folder(folder):
        return _sentence_encoder(folder)
    if folder.is_dir() and head_type_of(folder) is not None:
        found = read_fine_tuned(folder)
        about: dict[str, Any] = {
            "part": found.model.head_type,
            "problem": found.problem,
            "labels": list(found.labels),
            "own": found.extra_config,
            "max_length": found.max_length,
        }
        return Exportable(folder, found.model, load_tokenizer(folder), about)
    encoder, report = read_model(folder)
    if report.lacks("mlm_head"):
        raise lacks_head(folder, "masked-token")
    about = {
        "part": None,
        "problem": "masked_words",
        "labels": [],
        "pairs": encoder.has_nsp_head and not report.initialised,
        **({"own": {SENTENCE_ORDER: True}} if tells_order(folder) else {}),
        "max_length": encoder.config.max_positions,
    }
    return Exportable(folder, encoder, load_tokenizer(folder), about)


def _sentence_encoder(folder: Path) -> Exportable:
    encoder, settings = read_sentence_folder(folder)
    if settings.skip:
        raise ModelError(
            f"{folder} leaves the tokens of its prompt out of its vectors (include_prompt false), which is not "
            "exported to ONNX; use the folder itself"
        )
    model = SentenceEncoder(encoder, pooling=settings.pooling, normalize=settings.normalize).eval()
    about = {
        "part": "vector",
        "problem": "sentence_vectors",
        "labels": [],
        "layer": model.layer,
        "pooling": settings.pooling,
        "normalize": settings.normalize,
        "max_length": settings.max_length,
        "prompt": settings.prompts.text,
    }
    return Exportable(encoder_folder(folder), model, load_tokenizer(folder), about)
