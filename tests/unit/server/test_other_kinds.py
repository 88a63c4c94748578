"""Exported models, without torch or in 8-bit integers, and translators are served as others are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertwright.hub.encoder_decoder_folder import save_encoder_decoder
from bertwright.model.build import build_encoder, named_size
from bertwright.model.decoder import Decoder
from bertwright.model.encoder_decoder import EncoderDecoder, decoder_config
from bertwright.model.generate import SearchRules
from bertwright.verbs.export import export
from bertwright.verbs.predict import predict

TEXTS = ["The cat sat.", "a dog ran far away."]


def test_exported_models_answer_as_those_of_torch(
    served: Any, folders: dict[str, Path], serve_folders: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    for name in ("vectors", "words", "classify"):
        export(folders[name], tmp_path / name)
    exported = serve_folders({name: tmp_path / name for name in ("vectors", "words", "classify")})
    for path, body in (
        ("/embed", {"inputs": TEXTS}),
        ("/similarity", {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}}),
    ):
        np.testing.assert_allclose(exported.post(path, body).json, served.post(path, body).json, atol=1e-5, rtol=0)
    assert exported.post("/embed", {"inputs": TEXTS, "normalize": False}).status == 422
    for path, body in (
        ("/words/fill_mask", {"inputs": "the [MASK] sat."}),
        ("/words/next_sentence", {"inputs": TEXTS}),
        ("/classify/predict", {"inputs": TEXTS[0]}),
    ):
        found, wanted = exported.post(path, body).json, served.post(path, body).json
        assert rounded(found) == rounded(wanted), path
    assert exported.post("/embed_all", {"inputs": TEXTS}).status == 424
    assert exported.post("/inspect", {"text": "the cat"}).status == 424
    assert "/fill_mask" in exported.get("/").json


def rounded(value: Any) -> Any:
    """Return a value with its numbers rounded to 4 decimals."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


def test_translations_are_those_of_predict(
    folders: dict[str, Path], serve_folders: Callable[..., Any], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    shape = named_size("tiny", vocab_size=20, layers=1, hidden_size=32, heads=2, max_positions=48)
    model = EncoderDecoder(build_encoder(shape), Decoder(decoder_config(shape, layers=1))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    rules = SearchRules(begin=2, end=3, max_length=12)
    save_encoder_decoder(model, folders["vectors"], tmp_path / "de", rules=rules)
    server = serve_folders({"de": tmp_path / "de"})
    wanted = [dict(one) for one in predict(tmp_path / "de", TEXTS)]
    assert server.post("/translate", {"inputs": TEXTS}).json == wanted
    huggingface_hub = pytest.importorskip("huggingface_hub")
    found = huggingface_hub.InferenceClient(f"{server.url}/de").translation(TEXTS[0])
    assert found.translation_text == wanted[0]["translation"]
