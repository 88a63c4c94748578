"""The page and /attention show what transformers computes, and what `inspect` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

TEXT = "the cat sat on a mat."


def test_attention_is_that_of_transformers(served: Any, folders: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModel.from_pretrained(folders["words"], attn_implementation="eager").eval()
    rows = transformers.AutoTokenizer.from_pretrained(folders["words"])(TEXT, "who ran?", return_tensors="pt")
    with torch.inference_mode():
        wanted = torch.stack(theirs(**rows, output_attentions=True).attentions)[:, 0]
    found = served.post("/words/attention", {"inputs": [TEXT, "who ran?"]}).json
    np.testing.assert_allclose(found["attention"], wanted, atol=2e-6, rtol=0)
    assert found["token_type_ids"] == rows["token_type_ids"][0].tolist()
    assert found["tokens"][:3] == ["[CLS]", "the", "cat"]
    one = served.post("/words/attention", {"inputs": [TEXT, "who ran?"], "layers": [1]}).json
    assert (one["layers"], one["attention"]) == ([1], found["attention"][1:])
    assert served.post("/words/attention", {"inputs": TEXT, "layers": [2]}).status == 422
    assert served.post("/words/attention", {"inputs": "the " * 60}).status == 422


def test_the_page_asks_for_what_it_shows(served: Any) -> None:
    page = served.get("/")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert '"endpoint":"inspect"' in page.json
    found = served.post("/inspect", {"text": "the [MASK] sat", "second": None, "model": "words", "seed": 0})
    assert found.status == 200
    assert found.json["guesses"]
    (alike,) = served.post("/inspect", {"text": TEXT, "others": ["a dog"], "model": "vectors"}).json["alike"]
    body = {"inputs": {"source_sentence": TEXT, "sentences": ["a dog"]}}
    assert alike == pytest.approx(served.post("/similarity", body).json[0], abs=1e-4)
    assert served.post("/inspect", {"text": " ", "model": "words"}).status == 422
    docs = served.get("/docs")
    assert "/fill_mask" in docs.json
    assert docs.headers["content-security-policy"].startswith("default-src 'none'")
