"""Looking inside over HTTP: what /inspect and /attention give is what the room gives, and the page is at /."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.inspection.inspector import open_inspector

TEXT = "The [MASK] sat on a mat."


def test_inspect_gives_what_an_inspector_reads(served: Any, folders: dict[str, Path]) -> None:
    found = served.post("/words/inspect", {"text": TEXT, "seed": 3})
    wanted = open_inspector(folders["words"], name="words").read(TEXT, seed=3)
    assert found.status == 200
    assert found.json.keys() == wanted.keys()
    for name in ("tokens", "guesses", "draws", "attention", "words"):
        assert found.json[name] == json.loads(json.dumps(wanted[name])), name
    pair = served.post("/words/inspect", {"text": "The cat sat.", "second": "a dog ran."}).json
    assert 0 < pair["next"] < 1
    alike = served.post("/inspect", {"text": "the cat", "others": ["the cat", "a dog ran"]}).json["alike"]
    assert alike[0] > 0.999 > alike[1]
    tagged = served.post("/tagger/inspect", {"text": "the cat sat"}).json
    assert "entities" in tagged["prediction"]


def test_attention_is_that_of_the_model(served: Any, folders: dict[str, Path]) -> None:
    found = served.post("/words/attention", {"inputs": TEXT}).json
    assert found["tokens"] == ["[CLS]", "the", "[MASK]", "sat", "on", "a", "mat", ".", "[SEP]"]
    weights = np.array(found["attention"])
    assert weights.shape == (2, 2, 9, 9)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    last = served.post("/words/attention", {"inputs": ["the cat", "a dog"], "layers": [1]}).json
    assert (last["layers"], last["token_type_ids"]) == ([1], [0, 0, 0, 0, 1, 1, 1])
    assert np.shape(last["attention"]) == (1, 2, 7, 7)


def test_what_cannot_be_shown_is_refused_without_a_path(served: Any, folders: dict[str, Path]) -> None:
    for path, body, status in (
        ("/words/inspect", {"text": " "}, 422),
        ("/words/inspect", {"text": "the cat " * 40}, 422),
        ("/words/attention", {"inputs": TEXT, "layers": [7]}, 422),
        ("/words/inspect", {"text": TEXT, "seed": -1}, 422),
        ("/words/inspect", {}, 422),
    ):
        reply = served.post(path, body)
        assert (reply.status, reply.json["error_type"]) == (status, "Validation"), body
        assert str(folders["words"].parent) not in reply.json["error"]


def test_many_at_once_get_429_and_the_others_answers(served: Any) -> None:
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(served.post("/words/inspect", {"text": TEXT}).status)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 8


def test_the_page_is_at_the_root(serve_folders: Any, folders: dict[str, Path]) -> None:
    server = serve_folders({"words": folders["words"], "tagger": folders["tagger"]})
    server.service.page = None
    page = server.get("/")
    assert page.status == 200
    assert "Content-Security-Policy" in page.json
    assert '"endpoint":"inspect"' in page.json
    assert str(folders["words"].parent) not in page.json
