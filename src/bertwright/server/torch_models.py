"""Opens models of torch to be served: weights laid out for many small batches, in float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bertwright.device import pick_device
from bertwright.hub.encoder_decoder_folder import is_encoder_decoder, read_encoder_decoder
from bertwright.hub.encoder_folder import finds_replaced
from bertwright.hub.nsp_folder import is_next_sentence_folder, tells_order
from bertwright.hub.sentence_folder import SentenceSettings, read_sentence_folder
from bertwright.hub.sentence_layout import is_sentence_folder
from bertwright.hub.task_folder import head_type_of, read_fine_tuned
from bertwright.inference.batching import BatchPolicy, Forward, logits_of
from bertwright.inference.predictors import TaskPredictor, read_pretrained, require_head, task_of
from bertwright.inference.pretrained_predictor import PretrainedPredictor
from bertwright.inference.scoring import Head, encoder_forward, task_forward
from bertwright.inference.translation import TranslationPredictor
from bertwright.model.encoder import Encoder
from bertwright.model.layers.onednn_block import can_pack, pack
from bertwright.model.sentence_encoder import POOLINGS, Pooling
from bertwright.server.batcher import Lane
from bertwright.server.lanes import EmbedLane, PredictorLane
from bertwright.server.served_model import Precision, ServedModel, served_predictor
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import Tokenizer, load_tokenizer


def open_torch_model(name: str, folder: Path, *, precision: Precision, budget: int) -> ServedModel:
    """Return the model of a folder on the fastest device; see `open_model`."""
    if is_encoder_decoder(folder):
        return _translator(name, folder)
    if is_sentence_folder(folder):
        return _sentence_model(name, folder, precision)
    if not folder.is_dir() or head_type_of(folder) is None or is_next_sentence_folder(folder):
        return _pretrained(name, folder, precision, BatchPolicy(tokens=budget))
    opened, device = read_fine_tuned(folder), pick_device()
    model = ready(opened.model, precision)
    score = partial(logits_of, task_forward(model, device=device), policy=BatchPolicy(tokens=budget))
    encoder = TextEncoder(load_tokenizer(folder), max_length=opened.max_length)
    return served_predictor(
        name,
        TaskPredictor(task_of(opened), encoder, score),
        dtype=_dtype(precision),
        device=device.type,
    )


def ready(model: nn.Module, precision: Precision) -> Any:
    """Return a model on the fastest device, in evaluation mode, its weights as products read them soonest.

    On a CPU those of BERT's blocks are laid out for oneDNN; the model cannot be saved afterwards.
    """
    device = pick_device()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model.eval().to(device=device, dtype=dtype)
    if can_pack(device, dtype):
        pack(model)
    return model


def _dtype(precision: Precision) -> str:
    return "bfloat16" if precision == "bf16" else "float32"


def _translator(name: str, folder: Path) -> ServedModel:
    predictor = TranslationPredictor(read_encoder_decoder(folder))
    lane = PredictorLane(predictor.encoder, predictor.predict)
    return ServedModel(
        name,
        "translate",
        predictor.encoder.tokenizer,
        {"translate": lane},
        predictor.encoder.max_length,
        dtype="float32",
        device=predictor.device.type,
    )


def _sentence_model(name: str, folder: Path, precision: Precision) -> ServedModel:
    encoder, reading = read_sentence_folder(folder)
    model = ready(encoder, precision)
    tokenizer = load_tokenizer(folder)
    return ServedModel(
        name,
        "embedding",
        tokenizer,
        vector_lanes(model, tokenizer, reading),
        reading.max_length,
        dtype=_dtype(precision),
        device=pick_device().type,
        prompts=reading.prompts,
        prompt_is_pooled=not reading.skip,
        pooling=reading.pooling,
    )


def _pretrained(name: str, folder: Path, precision: Precision, policy: BatchPolicy) -> ServedModel:
    encoder, report = read_pretrained(folder)
    model, tokenizer = ready(encoder, precision), load_tokenizer(folder)
    max_length = model.config.max_positions
    more = vector_lanes(model, tokenizer, SentenceSettings("mean", normalize=False, max_length=max_length))
    device = pick_device().type
    if finds_replaced(encoder, report):
        return ServedModel(
            name,
            "replaced-tokens",
            tokenizer,
            more,
            max_length,
            dtype=_dtype(precision),
            device=device,
        )

    def forward(head: Head) -> Forward[np.ndarray]:
        require_head(model, head, folder=folder, report=report)
        return encoder_forward(model, head)

    predictor = PretrainedPredictor(
        tokenizer, forward, max_length=max_length, top_k=5, policy=policy, tells_order=tells_order(folder)
    )
    return served_predictor(name, predictor, dtype=_dtype(precision), device=device, more=more)


def vector_lanes(model: Encoder, tokenizer: Tokenizer, reading: SentenceSettings) -> Mapping[str, Lane]:
    """Return the lanes of vectors of texts and of their tokens, from the last hidden states of an encoder."""
    encoder = TextEncoder(tokenizer, max_length=reading.max_length)
    hidden = partial(_hidden_states, model)
    pooled = partial(_pooled, model, reading.pooling, reading.skip)
    return {"embed": EmbedLane(encoder, pooled), "embed_all": EmbedLane(encoder, hidden, each_token=True)}


def _states(model: Encoder, arrays: Mapping[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last hidden states [B, S, H] of a batch, and the mask [B, S] of its tokens."""
    device = next(model.parameters()).device
    names = ("input_ids", "token_type_ids", "attention_mask")
    ids, types, mask = (torch.from_numpy(arrays[name]).to(device) for name in names)
    return model.hidden_states(ids, types, mask, layer=model.config.layers), mask


@torch.inference_mode()
def _hidden_states(model: Encoder, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    hidden, _ = _states(model, arrays)
    states: np.ndarray = hidden.float().cpu().numpy()
    return states


@torch.inference_mode()
def _pooled(model: Encoder, pooling: Pooling, skip: int, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return vectors [B, H] float32, of the length they come in."""
    hidden, mask = _states(model, arrays)
    vectors = POOLINGS[pooling](hidden[:, skip:].float(), mask[:, skip:].unsqueeze(-1))
    values: np.ndarray = vectors.cpu().numpy()
    return values
