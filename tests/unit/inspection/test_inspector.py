"""What an inspector says of a text: words, masks as training draws them, the map, layers, and models of other kinds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bertwright.errors import InputError, ModelError, UsageError
from bertwright.hub.encoder_folder import load_model
from bertwright.hub.sentence_folder import save_sentence_model
from bertwright.inspection.drawn_masks import drawn_masks
from bertwright.inspection.example_texts import CHINESE_SINGLE, QUESTIONS, default_texts
from bertwright.inspection.guesses import guesses_of
from bertwright.inspection.inspector import Inspector, open_inspector
from bertwright.inspection.word_rows import word_row
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.tokenizer.load import load_tokenizer
from bertwright.verbs.embed import embed
from bertwright.verbs.predict import predict

from .conftest import small_encoder


@pytest.fixture(scope="module")
def inspector(pretrained: Path) -> Inspector:
    return open_inspector(pretrained, texts=[("The list is empty.",), ("The film rains.",), ("A fine film.",)])


def test_guesses_are_those_of_predict_also_where_words_are_masked(inspector: Inspector, pretrained: Path) -> None:
    reading = inspector.read("The [MASK] is empty.")
    texts = {"": "The [MASK] is empty.", "0": "[MASK] [MASK] is empty.", "2,3": "The [MASK] [MASK] [MASK]."}
    for key, text in texts.items():
        [wanted] = predict(pretrained, [text])
        for ours, theirs in zip(reading["guesses"][key], wanted["predictions"], strict=True):
            assert [word for word, _ in ours] == [word for word, _ in theirs]
            assert [p for _, p in ours] == pytest.approx([p for _, p in theirs], abs=1e-4)
    [layers] = reading["layers"]
    assert (layers["of"], layers["p"][-1]) == tuple(reading["guesses"][""][0][0])
    assert layers["rank"][-1] == 1
    assert len(layers["words"]) == 3


def test_words_pieces_unknown_and_chinese_are_told(inspector: Inspector) -> None:
    reading = inspector.read("Films 中国 xyz.")
    assert reading["tokens"] == ["[CLS]", "film", "##s", "中", "国", "[UNK]", ".", "[SEP]"]
    assert reading["words"][0] == [1, 3, 0, 0, 5]
    assert reading["unknown"] == [5]
    assert reading["special"] == [1, 0, 0, 0, 0, 0, 0, 1]
    assert reading["cut"] == [["Films", "中国", "xyz", "."]]
    assert inspector.read("中国[MASK]。[MASK] 中国")["cut"] == [["中国", "[MASK]", "。", "[MASK]", "中国"]]
    pair = inspector.read("The list.", "It rains.")
    assert pair["types"] == [0] * 5 + [1] * 4
    assert 0 < pair["next"] < 1


def test_masks_are_drawn_as_training_draws_them(pretrained: Path) -> None:
    """15% of 40 tokens in each draw; of 24,000 each share within 4 standard errors (0.26 points at 10%: 0.19)."""
    tokenizer = load_tokenizer(pretrained)
    row = word_row(["film " * 38], tokenizer, max_length=48)
    draws = drawn_masks(row, tokenizer, count=4000)
    assert {len(one) for one in draws} == {6}
    kinds = [kind for one in draws for _, kind, _ in one]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in ("mask", "random", "kept")}
    same = 0.1 / tokenizer.vocab_size  # of random tokens, so many are [MASK], and so many the token itself
    for kind, share in {"mask": 0.8 + same, "random": 0.1 - 2 * same, "kept": 0.1 + same}.items():
        assert abs(shares[kind] - share) < 4 * (share * (1 - share) / len(kinds)) ** 0.5, kind
    assert all(0 < place < 39 for one in draws for place, _, _ in one)
    assert drawn_masks(row, tokenizer, count=3, seed=1) == drawn_masks(row, tokenizer, count=3, seed=1)
    assert drawn_masks(row, tokenizer, count=3, seed=1) != drawn_masks(row, tokenizer, count=3, seed=2)


def test_the_nearest_word_of_another_text_is_found_and_never_itself(inspector: Inspector) -> None:
    about, reading = inspector.about(), inspector.read("The list is empty.")
    tokens, owners = about["reference"]["tokens"], about["reference"]["owners"]
    assert tokens[:5] == ["the", "list", "is", "empty", "."]
    nearest, cosine = reading["near"][0][1][0]  # "the" at the embeddings, which is the same in the second text
    assert (tokens[nearest], owners[nearest]) == ("the", 1)
    assert cosine == pytest.approx(1, abs=1e-3)
    assert reading["near"][2][1][0][1] < 0.9999
    for layer in reading["near"]:
        assert all(number != place for place, found in enumerate(layer[1:6]) for number, _ in found)
    points = torch.tensor(about["reference"]["map"])
    assert points.shape == (3, len(tokens), 2)
    assert torch.allclose(points.abs().amax((1, 2)), torch.ones(3), atol=1e-3)
    placed = torch.tensor(reading["map"])[:, 1:6]
    torch.testing.assert_close(placed, points[:, :5], atol=2e-3, rtol=0)


def test_vectors_of_a_sentence_model_are_its_own(vocabulary: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = SentenceEncoder(small_encoder(), pooling="cls", normalize=True)
    save_sentence_model(model, vocabulary, folder, max_length=48)
    inspector = open_inspector(folder, texts=[("a film",), ("it rains",)])
    reading = inspector.read("a film")
    assert "guesses" not in reading
    vectors = embed(folder, ["a film", "it rains"])
    assert reading["alike"] == pytest.approx((vectors @ vectors[0]).tolist(), abs=1e-3)
    assert inspector.alike("a film", ["it rains"]) == pytest.approx([float(vectors[0] @ vectors[1])], abs=1e-4)


def test_example_texts_fit_the_model(pretrained: Path) -> None:
    tokenizer = load_tokenizer(pretrained)
    assert default_texts(tokenizer, task=None, fills_masks=False, tells_pairs=False) == [(t,) for t in CHINESE_SINGLE]
    english = load_tokenizer(pretrained)
    english.encode = lambda text: [5] * 9  # type: ignore[method-assign]
    assert default_texts(english, task=None, fills_masks=True, tells_pairs=True)[0] == (QUESTIONS[0],)
    assert len(default_texts(english, task="answer", fills_masks=False, tells_pairs=False)[0]) == 2


def test_what_cannot_be_shown_is_refused(inspector: Inspector, tmp_path: Path, pretrained: Path) -> None:
    for texts in (("  ",), ("film", ""), ("film " * 60,)):
        with pytest.raises(InputError):
            inspector.read(*texts)
    with pytest.raises(InputError, match="7"):
        inspector.attention(("film",), [7])
    with pytest.raises(ModelError, match="none"):
        open_inspector(tmp_path / "none")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "bertwright-onnx.json").write_text("{}")
    with pytest.raises((UsageError, ModelError)):
        open_inspector(tmp_path / "onnx")


def test_variants_are_computed_alike_alone_and_together(pretrained: Path) -> None:
    model, tokenizer = load_model(pretrained), load_tokenizer(pretrained)
    row = word_row(["The list is empty if it rains."], tokenizer, max_length=48)
    together = guesses_of(model, tokenizer, row)
    assert len(together) == 8 + 28
    for key in ("3", "1,6"):
        alone = guesses_of(model, tokenizer, row.hidden([int(one) for one in key.split(",")]), pairs=False)[""]
        assert [[word for word, _ in mask] for mask in alone] == [[word for word, _ in mask] for mask in together[key]]
