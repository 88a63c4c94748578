"""Fill-mask and sentence pairs: answers in the order asked, equal to the model's own logits, whatever the batching."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import tokenizers
import torch

from bertwright.errors import InputError, UsageError
from bertwright.inference.pretrained_predictor import WORD_POLICY, PretrainedPredictor, fill_mask
from bertwright.inference.scoring import encoder_forward
from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import named_size
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.types import MaskedBatch

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "##x"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer that does not know [MASK] inside running text."""
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({name: i for i, name in enumerate(NAMES)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(file))
    return load_tokenizer(Path(file))


@pytest.fixture(scope="module")
def model() -> BertForPreTraining:
    """A small model with sharp answers, and more rows of embeddings than there are tokens."""
    torch.manual_seed(0)
    model = BertForPreTraining(named_size("tiny", vocab_size=20, hidden_size=16, heads=2, max_positions=24)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def predictor_of(model: BertForPreTraining, tokenizer: Tokenizer) -> PretrainedPredictor:
    return PretrainedPredictor(tokenizer, partial(encoder_forward, model), max_length=24, top_k=3)


def shares_at(model: BertForPreTraining, ids: list[int], position: int) -> torch.Tensor:
    row = torch.tensor([ids])
    return torch.softmax(model.mlm_logits(model.encode(row, row * 0, row >= 0))[0, position], dim=-1)


def test_guesses_are_those_of_the_model(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    [first, second] = predictor_of(model, tokenizer).fill_masks(["a [MASK] b [MASK]", "c[MASK]"])
    assert len(first) == 2
    assert len(second) == 1
    for guesses, (ids, position) in zip(
        [*first, *second], [([2, 5, 4, 6, 4, 3], 2), ([2, 5, 4, 6, 4, 3], 4), ([2, 7, 4, 3], 2)], strict=True
    ):
        expected = shares_at(model, ids, position)[: len(NAMES)].topk(3)
        assert [word for word, _ in guesses] == [NAMES[i] for i in expected.indices.tolist()]
        assert [share for _, share in guesses] == pytest.approx(expected.values.tolist(), abs=1e-6)


def test_order_survives_batching(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    texts = [" ".join(["a", "b", "c"][: i % 3] + ["d"] * (i % 11)) + " [MASK]" for i in range(2 * WORD_POLICY.rows + 3)]
    together = fill_mask(model, tokenizer, texts, top_k=2)
    for text, guesses in zip(texts, together, strict=True):
        [alone] = fill_mask(model, tokenizer, [text], top_k=2)
        assert [word for word, _ in guesses] == [word for word, _ in alone]
        assert [share for _, share in guesses] == pytest.approx([share for _, share in alone], abs=1e-5)


def test_more_words_than_there_are(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    [guesses] = fill_mask(model, tokenizer, ["[MASK]"], top_k=1000)
    assert sorted(word for word, _ in guesses) == sorted(NAMES)
    assert fill_mask(model, tokenizer, []) == []


def test_questions_that_cannot_be_answered(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match=r'"a b".*\[MASK\]'):
        fill_mask(model, tokenizer, ["a [MASK]", "a b"])
    with pytest.raises(UsageError, match="more than one"):
        fill_mask(model, tokenizer, ["[MASK] [MASK]"])
    with pytest.raises(InputError, match=r"text 2.*25 tokens.*24"):
        fill_mask(model, tokenizer, ["[MASK]", "a " * 22 + "[MASK]"])


def test_next_sentence_is_the_first_class(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    [first, second] = predictor_of(model, tokenizer).next_sentence([("a b", "c"), ("d", "e f g h")])
    for share, ids, types in (
        (first, [2, 5, 6, 3, 7, 3], [0, 0, 0, 0, 1, 1]),
        (second, [2, 8, 3, 9, 10, 11, 12, 3], [0, 0, 0, 1, 1, 1, 1, 1]),
    ):
        row = torch.tensor([ids])
        nothing = torch.zeros(1, 1).long()
        scores = model(MaskedBatch(row, torch.tensor([types]), row >= 0, nothing, nothing, torch.ones(1, 1)))
        assert share == pytest.approx(torch.softmax(scores.nsp, -1)[0, 0].item(), abs=1e-6)
