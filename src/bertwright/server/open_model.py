"""Opens the model of a folder, of torch or exported, to be served."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from bertwright.hub.onnx.onnx_folder import OnnxFolder, is_onnx_folder, open_onnx
from bertwright.hub.sentence_layout import Prompts
from bertwright.inference.batching import BatchPolicy, logits_of
from bertwright.inference.predictors import TaskPredictor, open_predictor
from bertwright.inference.pretrained_predictor import PretrainedPredictor
from bertwright.server.inside import Inside
from bertwright.server.lanes import EmbedLane
from bertwright.server.served_model import Precision, ServedModel, served_predictor
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer


def open_model(name: str, folder: Path, *, precision: Precision, budget: int) -> ServedModel:
    """Return the model of a folder, ready to be asked in batches of about `budget` tokens by one thread or several.

    Raises ModelError where the folder is damaged or lacks weights, and UsageError where onnxruntime is not installed.
    """
    if is_onnx_folder(folder):
        return _exported(name, open_onnx(folder), budget=budget)
    from bertwright.server.torch_models import open_torch_model

    found = open_torch_model(name, folder, precision=precision, budget=budget)
    return found if found.kind == "translate" else replace(found, inside=Inside(folder, name))


def _exported(name: str, opened: OnnxFolder, *, budget: int) -> ServedModel:
    if opened.head_type == "vector":
        tokenizer = load_tokenizer(opened.folder)
        prompt = str(opened.about.get("prompt", ""))
        lane = EmbedLane(TextEncoder(tokenizer, max_length=opened.max_length), opened.logits)
        return ServedModel(
            name,
            "embedding",
            tokenizer,
            {"embed": lane},
            opened.max_length,
            dtype=_exported_dtype(opened),
            device="cpu",
            prompts=Prompts({"default": prompt}, "default") if prompt else Prompts(),
            always_unit=bool(opened.about["normalize"]),
            pooling=str(opened.about["pooling"]),
        )
    predictor = open_predictor(opened.folder)
    policy = BatchPolicy(tokens=budget)
    if isinstance(predictor, TaskPredictor):
        predictor.score = partial(logits_of, opened.logits, policy=policy)
    elif isinstance(predictor, PretrainedPredictor):
        predictor.policy = policy
    return served_predictor(name, predictor, dtype=_exported_dtype(opened), device="cpu")


def _exported_dtype(opened: OnnxFolder) -> str:
    return "int8" if opened.about.get("quantized") == "int8" else "float32"
