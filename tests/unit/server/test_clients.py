"""The clients of others get what the libraries they stand for compute: vectors, labels, words, entities, answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertwright.verbs.predict import predict

TEXTS = ["The cat sat.", "a dog ran far away.", "mat", "who sat on a mat?"]
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0}


@pytest.fixture
def hub(served: Any) -> Any:
    """Return huggingface_hub's client of a served model, by its name."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    return lambda name: huggingface_hub.InferenceClient(f"{served.url}/{name}")


def test_openai_gets_the_vectors_of_sentence_transformers(served: Any, folders: dict[str, Path]) -> None:
    openai = pytest.importorskip("openai")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.SentenceTransformer(str(folders["vectors"]), device="cpu")
    wanted = theirs.encode(TEXTS, normalize_embeddings=True)
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        found = client.embeddings.create(model="vectors", input=TEXTS)  # asks for base64
        np.testing.assert_allclose([one.embedding for one in found.data], wanted, **CLOSE)
        assert found.usage.prompt_tokens == sum(map(len, theirs.tokenizer(TEXTS)["input_ids"]))
        numbers = client.embeddings.create(model="vectors", input=TEXTS[1], encoding_format="float")
        np.testing.assert_allclose(numbers.data[0].embedding, wanted[1], **CLOSE)
        with pytest.raises(openai.UnprocessableEntityError, match="48"):
            client.embeddings.create(model="vectors", input="the " * 100)
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="nothing", input="the")


def test_inference_client_of_vectors(hub: Any, served: Any, folders: dict[str, Path]) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.SentenceTransformer(str(folders["vectors"]), device="cpu")
    wanted = theirs.encode(TEXTS, normalize_embeddings=True)
    client = hub("vectors")
    np.testing.assert_allclose(client.feature_extraction(TEXTS[0], normalize=True), wanted[:1], **CLOSE)
    cosines = client.sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
    np.testing.assert_allclose(cosines, wanted[1:] @ wanted[0], **CLOSE)


def test_inference_client_of_labels(hub: Any, folders: dict[str, Path]) -> None:
    (wanted,) = predict(folders["classify"], TEXTS[:1], precision="fp32")
    found = hub("classify").text_classification(TEXTS[0])
    assert {one.label: pytest.approx(one.score, abs=1e-5) for one in found} == wanted["probabilities"]
    best = hub("classify").text_classification(TEXTS[0], top_k=1, function_to_apply="softmax")
    assert [one.label for one in best] == [wanted["label"]]
    assert best[0].score == pytest.approx(wanted["probability"], abs=1e-5)


def test_inference_client_fills_masks_as_the_pipeline_of_transformers(hub: Any, folders: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    text = "the [MASK] sat on a mat."
    pipeline = transformers.pipeline("fill-mask", str(folders["words"]), device="cpu")
    for wanted, found in (
        (pipeline(text, top_k=4), hub("words").fill_mask(text, top_k=4)),
        (pipeline(text, targets=["dog", "cat"]), hub("words").fill_mask(text, targets=["dog", "cat"])),
    ):
        assert [(one.token, one.token_str) for one in found] == [(one["token"], one["token_str"]) for one in wanted]
        np.testing.assert_allclose([one.score for one in found], [one["score"] for one in wanted], **CLOSE)
    assert found[0].sequence == text.replace("[MASK]", found[0].token_str)


def test_inference_client_of_entities_and_answers(hub: Any, folders: dict[str, Path]) -> None:
    text = "the cat sat on a mat. a dog ran."
    (wanted,) = predict(folders["tagger"], [text], precision="fp32")
    found = hub("tagger").token_classification(text)
    assert [(one.entity_group, one.word, one.start, one.end) for one in found] == [
        (one["type"], one["text"], one["start"], one["end"]) for one in wanted["entities"]
    ]
    assert hub("tagger").token_classification(text, ignore_labels=["PER"]) == []
    (best,) = predict(folders["reader"], ["who sat?", text], precision="fp32")
    answer = hub("reader").question_answering(question="who sat?", context=text)
    assert (answer.answer, answer.start, answer.end) == (best["answer"], best["start"], best["end"])
    assert answer.score == pytest.approx(best["probability"], abs=1e-5)


def test_other_kinds_at_the_root(served: Any) -> None:
    choice = {"context": "the cat", "choices": ["sat on a mat", "ran"]}
    assert served.post("/chooser", {"inputs": choice}).json == served.post("/chooser/choose", {"inputs": choice}).json
    ranked = {"query": "who sat?", "texts": TEXTS}
    assert served.post("/rank", ranked).json == served.post("/rank/rerank", ranked).json
    (vector,) = served.post("/words", {"inputs": "the cat"}).json
    np.testing.assert_allclose(vector, served.post("/words/embed", {"inputs": "the cat"}).json[0], **CLOSE)
    unknown = served.post("/classify", {"inputs": "mat", "parameters": {"nothing": 1}})
    assert (unknown.status, served.post("/classify", {"inputs": 3}).status) == (422, 422)
