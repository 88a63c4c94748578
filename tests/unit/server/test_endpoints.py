"""Each endpoint answers as the model does when it is asked in Python, in the shapes of TEI, and with its headers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertwright.verbs.embed import embed
from bertwright.verbs.predict import predict

TEXTS = ["The cat sat.", "a dog ran far away.", "mat"]
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0}


def test_vectors_are_those_of_embed(served: Any, folders: dict[str, Path]) -> None:
    wanted = embed(folders["vectors"], TEXTS)
    found = served.post("/embed", {"inputs": TEXTS})
    np.testing.assert_allclose(found.json, wanted, **CLOSE)
    np.testing.assert_allclose(served.post("/embed", {"inputs": TEXTS[1]}).json, wanted[1:2], **CLOSE)
    raw = embed(folders["vectors"], TEXTS, normalize=False)
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1)
    np.testing.assert_allclose(served.post("/embed", {"inputs": TEXTS, "normalize": False}).json, raw, **CLOSE)
    words = embed(folders["words"], TEXTS)
    found = served.post("/words/embed", {"inputs": TEXTS, "normalize": False}).json
    np.testing.assert_allclose(found, words, **CLOSE)


def test_headers_say_what_was_done(served: Any) -> None:
    headers = served.post("/embed", {"inputs": ["The cat sat.", "mat"]}).headers
    assert (headers["x-compute-tokens"], headers["x-compute-characters"]) == ("9", "15")
    assert headers["x-compute-type"] in ("cpu", "cuda")
    times = ("x-compute-time", "x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time")
    assert all(int(headers[name]) >= 0 for name in times)
    assert "x-truncated-inputs" not in headers


def test_token_ids_shorter_vectors_and_single_tokens(served: Any) -> None:
    (whole,) = served.post("/embed", {"inputs": "the cat sat"}).json
    (by_ids,) = served.post("/embed", {"inputs": [5, 6, 7]}).json
    np.testing.assert_allclose(by_ids, whole, **CLOSE)
    (short,) = served.post("/embed", {"inputs": "the cat sat", "dimensions": 8}).json
    np.testing.assert_allclose(short, np.array(whole[:8]) / np.linalg.norm(whole[:8]), **CLOSE)
    (tokens,) = served.post("/embed_all", {"inputs": "the cat sat"}).json
    (mean,) = served.post("/embed", {"inputs": "the cat sat", "normalize": False}).json
    assert np.shape(tokens) == (5, 32)
    np.testing.assert_allclose(np.mean(tokens, axis=0), mean, **CLOSE)


def test_long_texts_are_refused_or_cut_at_either_end(served: Any) -> None:
    text = "the cat " * 40
    refused = served.post("/embed", {"inputs": text})
    assert (refused.status, refused.json["error_type"]) == (422, "Validation")
    assert "82" in refused.json["error"]
    assert "48" in refused.json["error"]
    cut = served.post("/embed", {"inputs": text, "truncate": True})
    assert cut.headers["x-truncated-inputs"] == "1"
    (start,) = served.post("/embed", {"inputs": [5, 6] * 23}).json
    np.testing.assert_allclose(cut.json, [start], **CLOSE)
    left = {"inputs": text + "away", "truncate": True, "truncation_direction": "Left"}
    (end,) = served.post("/embed", {"inputs": [6, *[5, 6] * 22, NAMES_AWAY]}).json
    np.testing.assert_allclose(served.post("/embed", left).json, [end], **CLOSE)


NAMES_AWAY = 14
"""The id of "away"."""


def test_similarity_is_the_cosine(served: Any, folders: dict[str, Path]) -> None:
    first, *others = embed(folders["vectors"], TEXTS)
    body = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}}
    np.testing.assert_allclose(served.post("/similarity", body).json, np.array(others) @ first, **CLOSE)


def test_openai_vectors_as_numbers_and_as_base64(served: Any, folders: dict[str, Path]) -> None:
    wanted = embed(folders["vectors"], TEXTS)
    found = served.post("/v1/embeddings", {"input": TEXTS, "model": "vectors"}).json
    assert (found["object"], found["model"]) == ("list", "vectors")
    assert found["usage"] == {"prompt_tokens": 17, "total_tokens": 17}
    assert [(one["object"], one["index"]) for one in found["data"]] == [("embedding", place) for place in range(3)]
    np.testing.assert_allclose([one["embedding"] for one in found["data"]], wanted, **CLOSE)
    packed = served.post("/v1/embeddings", {"input": TEXTS, "encoding_format": "base64"}).json["data"]
    values = [np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4") for one in packed]
    np.testing.assert_allclose(values, wanted, **CLOSE)


def test_labels_are_those_of_predict_best_first(served: Any, folders: dict[str, Path]) -> None:
    wanted = [one["probabilities"] for one in predict(folders["classify"], TEXTS, precision="fp32")]
    found = served.post("/classify/predict", {"inputs": [[text] for text in TEXTS]}).json
    for labels, expected in zip(found, wanted, strict=True):
        assert {one["label"]: pytest.approx(one["score"], abs=1e-5) for one in labels} == expected
        assert [one["score"] for one in labels] == sorted((one["score"] for one in labels), reverse=True)
    single = served.post("/classify/predict", {"inputs": TEXTS[0]}).json
    assert [one["label"] for one in single] == [one["label"] for one in found[0]]
    raw = served.post("/classify/predict", {"inputs": TEXTS[0], "raw_scores": True}).json
    powers = np.exp([one["score"] for one in raw])
    np.testing.assert_allclose([one["score"] for one in single], powers / powers.sum(), **CLOSE)
    (score,) = served.post("/regress/predict", {"inputs": TEXTS[0]}).json
    assert score["score"] == pytest.approx(predict(folders["regress"], TEXTS[:1])[0]["score"], abs=1e-5)


def test_ranks_are_those_of_predict(served: Any, folders: dict[str, Path]) -> None:
    [wanted] = predict(folders["rank"], ["who sat?", *TEXTS], precision="fp32")
    body = {"query": "who sat?", "texts": TEXTS, "return_text": True}
    found = served.post("/rank/rerank", body).json
    assert [(one["index"], one["text"]) for one in found] == [(one["place"], one["text"]) for one in wanted["passages"]]
    scores = [one["score"] for one in wanted["passages"]]
    np.testing.assert_allclose([one["score"] for one in found], scores, **CLOSE)
    raw = served.post("/rank/rerank", body | {"raw_scores": True, "return_text": False}).json
    np.testing.assert_allclose(1 / (1 + np.exp([-one["score"] for one in raw])), scores, **CLOSE)
    assert "text" not in raw[0]


def test_masks_and_next_sentences_are_those_of_predict(served: Any, folders: dict[str, Path]) -> None:
    texts = ["the [MASK] sat.", "a [MASK] ran [MASK]."]
    wanted = predict(folders["words"], texts, top_k=3)
    found = served.post("/words/fill_mask", {"inputs": texts, "top_k": 3}).json
    for masks, expected in zip(found, wanted, strict=True):
        assert [[one["token_str"] for one in of_mask] for of_mask in masks] == [
            [word for word, _ in of_mask] for of_mask in expected["predictions"]
        ]
        np.testing.assert_allclose(
            [[one["score"] for one in of_mask] for of_mask in masks],
            [[share for _, share in of_mask] for of_mask in expected["predictions"]],
            **CLOSE,
        )
    body = {"inputs": texts[0], "targets": ["dog", "mat"]}
    (((first, second),),) = served.post("/words/fill_mask", body).json
    assert {first["token_str"], second["token_str"]} == {"dog", "mat"}
    assert first["score"] >= second["score"]
    assert served.post("/words/fill_mask", {"inputs": texts[0], "targets": ["zebra"]}).status == 422
    assert served.post("/words/fill_mask", {"inputs": "no mask"}).status == 422
    pairs = [["the cat sat.", "a dog ran."], ["mat", "the"]]
    expected = [predict(folders["words"], pair)[0]["next"] for pair in pairs]
    found = served.post("/words/next_sentence", {"inputs": pairs}).json
    np.testing.assert_allclose([one["next"] for one in found], expected, **CLOSE)
    (alone,) = served.post("/words/next_sentence", {"inputs": pairs[0]}).json
    assert alone["next"] == pytest.approx(found[0]["next"], abs=1e-5)


def rounded(value: Any) -> Any:
    """Return a value with its numbers rounded to 4 decimals."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


def test_tags_answers_and_choices_are_those_of_predict(served: Any, folders: dict[str, Path]) -> None:
    long = ["the cat sat on a mat. " * 12]
    found = served.post("/tagger/tag", {"inputs": TEXTS + long})
    assert rounded(found.json) == rounded(list(predict(folders["tagger"], TEXTS + long, precision="fp32")))
    assert found.headers["x-split-inputs"] == "1"
    question = {"question": "who sat?", "context": "The cat sat on a mat. A dog ran far away."}
    found = served.post("/reader/answer", {"inputs": question}).json
    assert rounded(found) == rounded(list(predict(folders["reader"], [*question.values()], precision="fp32")))
    choice = {"context": "the cat", "choices": ["sat on a mat", "ran", "far away"]}
    found = served.post("/chooser/choose", {"inputs": [choice]}).json
    asked = [choice["context"], *choice["choices"]]
    assert rounded(found) == rounded(list(predict(folders["chooser"], asked, precision="fp32")))


def test_tokens_stand_where_their_characters_do(served: Any) -> None:
    text = "The unknown zebra."
    (found,) = served.post("/tokenize", {"inputs": text}).json
    assert [one["token"] for one in found] == ["[CLS]", "the", "un", "##known", "[UNK]", ".", "[SEP]"]
    inner = [one for one in found if not one["special"]]
    assert [text[one["start"] : one["stop"]] for one in inner] == [one["text"] for one in inner]
    assert [one["word_start"] for one in inner] == [True, True, False, True, True]
    assert [one["unknown"] for one in inner] == [False, False, False, True, False]
    (bare,) = served.post("/tokenize", {"inputs": [text], "add_special_tokens": False}).json
    assert bare == inner
    ids = [one["id"] for one in found]
    assert served.post("/decode", {"ids": ids}).json == ["the unknown."]
    assert served.post("/decode", {"ids": [ids, [5]], "skip_special_tokens": False}).json[0].startswith("[CLS]")


def test_several_models_by_field_and_by_path(served: Any) -> None:
    by_path = served.post("/classify/predict", {"inputs": "mat"}).json
    assert served.post("/predict", {"inputs": "mat", "model": "classify"}).json == by_path
    for path, body in (("/predict", {"inputs": "mat", "model": "none"}), ("/none/predict", {"inputs": "mat"})):
        assert served.post(path, body).status == 404
    assert served.post("/classify/predict", {"inputs": "mat", "model": "rank"}).status == 422
    info = served.get("/info").json
    assert info["served_model_name"] == "vectors"
    assert {one["served_model_name"]: one["kind"] for one in info["models"]}["words"] == "pretrained"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert list(info["models"][2]["model_type"]) == ["classifier"]
    assert (info["max_input_length"], info["max_client_batch_size"]) == (48, 32)


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/embed", {"inputs": ""}, 400, "Empty"),
        ("/embed", {"inputs": []}, 400, "Empty"),
        ("/embed", b"{", 400, "Validation"),
        ("/embed", {"inputs": ["a"] * 33}, 413, "Validation"),
        ("/embed", {"inputs": 3}, 422, "Validation"),
        ("/embed", {"inputs": ["a", 3]}, 422, "Validation"),
        ("/embed", {"inputs": [10**6]}, 422, "Validation"),
        ("/embed", {"inputs": "a", "normalise": True}, 422, "Validation"),
        ("/embed", {"inputs": "a", "dimensions": 33}, 422, "Validation"),
        ("/embed", {"inputs": "a", "prompt_name": "query"}, 422, "Validation"),
        ("/predict", {"inputs": "a"}, 424, "Backend"),
        ("/words/predict", {"inputs": "a"}, 424, "Backend"),
        ("/classify/embed", {"inputs": "a"}, 424, "Backend"),
        ("/rank/rerank", {"query": "a", "texts": []}, 400, "Empty"),
        ("/rank/rerank", {"query": "a", "texts": ["a"] * 33}, 413, "Validation"),
        ("/classify/predict", {"inputs": ["a", "b", "c"]}, 422, "Validation"),
        ("/words/next_sentence", {"inputs": ["a"]}, 422, "Validation"),
        ("/decode", {"ids": [10**6]}, 422, "Tokenizer"),
        ("/nothing", {}, 404, "Validation"),
    ],
)
def test_errors_have_the_statuses_and_bodies_of_tei(served: Any, path: str, body: Any, status: int, kind: str) -> None:
    found = served.post(path, body)
    assert (found.status, found.json["error_type"]) == (status, kind)
    assert set(found.json) == {"error", "error_type"}
    assert "/tmp" not in found.json["error"]


def test_openai_errors_have_their_own_shape(served: Any) -> None:
    found = served.post("/v1/embeddings", {"input": ""})
    assert found.status == 400
    assert (found.json["code"], found.json["type"]) == (400, "Empty")


def test_metrics_count_what_was_asked(served: Any) -> None:
    def value(name: str) -> float:
        lines = [line for line in served.get("/metrics").json.splitlines() if line.startswith(name)]
        return float(lines[0].split()[-1]) if lines else 0.0

    names = ('te_request_count{method="single"}', 'te_request_success{method="single"}', "te_request_duration_count")
    before = [value(name) for name in names]
    failed = value('te_request_failure{err="empty"}')
    served.post("/embed", {"inputs": "mat"})
    served.post("/embed", {"inputs": ""})
    assert [value(name) for name in names] == [before[0] + 2, before[1] + 1, before[2] + 1]
    assert value('te_request_failure{err="empty"}') == failed + 1
    assert value("te_queue_size") == 0
