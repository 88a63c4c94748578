"""Documents become blocks: boundaries right, empty sentences and documents left out, special tokens kept as text."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bertwright.corpus.encode import DocumentEncoder, break_reserved, choose_sentences, document_block
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.ragged import Ragged
from bertwright.tokenizer.train_vocabulary import train_tokenizer

TEXTS = ["Dr. Smith came home. He sat down.", "One line only", "Two words. \u200d. And [MASK] in text."]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(TEXTS * 5, folder=tmp_path_factory.mktemp("tokenizer"), vocab_size=512)


def test_sentences_and_words_of_documents(tokenizer: Tokenizer) -> None:
    encoder = DocumentEncoder(tokenizer, language="en", newline="paragraph", sample=TEXTS)
    block = encoder.encode(*encoder.split(pa.array(TEXTS[:2])))
    first = [tokenizer.encode("Dr. Smith came home."), tokenizer.encode("He sat down.")]
    third = tokenizer.encode("One line only")
    assert block.tokens.tolist() == [*first[0], *first[1], *third]
    assert block.tokens.dtype == np.uint16
    assert block.sentence_counts.tolist() == [2, 1]
    assert block.sentence_ends.tolist() == [len(first[0]), len(first[0]) + len(first[1]), len(third)]
    assert block.token_counts.tolist() == [len(first[0]) + len(first[1]), len(third)]
    assert int(block.word_starts.sum()) == 13  # Dr . Smith came home . | He sat down . | One line only


def test_special_tokens_in_the_text_stay_text(tokenizer: Tokenizer) -> None:
    encoder = DocumentEncoder(tokenizer, language="en", newline="paragraph", sample=TEXTS)
    tokens = encoder.encode(*encoder.split(pa.array([TEXTS[2]]))).tokens
    assert tokenizer.special.mask not in tokens
    assert "[ MASK]" in break_reserved(pa.array([TEXTS[2]]), tokenizer.reserved)[0].as_py()


def test_sentences_and_documents_without_tokens_are_left_out() -> None:
    sentences = Ragged(np.arange(6, dtype=np.uint16), np.array([2, 0, 1, 0, 0, 3]))
    block = document_block(sentences, np.array([3, 1, 0, 2]), np.ones(6, dtype=bool))
    assert block.sentence_counts.tolist() == [2, 1]
    assert block.token_counts.tolist() == [3, 3]
    assert block.sentence_ends.tolist() == [2, 3, 3]


def test_a_block_without_any_token() -> None:
    block = document_block(Ragged(np.zeros(0, np.uint16), np.array([0])), np.array([1]), np.zeros(0, dtype=bool))
    assert len(block.token_counts) == len(block.sentence_ends) == 0


def test_half_of_the_proof_is_beyond_ascii() -> None:
    sentences = [f"plain {i}" for i in range(30_000)] + [f"naïve {i}" for i in range(15_000)]
    chosen = choose_sentences(sentences)
    assert sum(not s.isascii() for s in chosen) in range(4_000, 5_001)
    assert 7_500 <= len(chosen) <= 10_000
    assert choose_sentences(["a", "é"]) == ["é", "a"]


def test_special_tokens_in_chinese_text_do_not_hinder_its_words(tmp_path: Path) -> None:
    texts = ["他来到北京大学。 模型预测 [MASK] 的词。", "今天天气很好，我们去公园散步。"]
    words = train_tokenizer(texts * 5, folder=tmp_path, vocab_size=512)
    encoder = DocumentEncoder(words, language="zh", newline="paragraph", sample=texts)
    assert encoder.word_statement == "words of rjieba"
    block = encoder.encode(*encoder.split(pa.array(texts[:1])))
    assert words.special.mask not in block.tokens
    assert int(block.word_starts.sum()) == 12  # 他 来到 北京大学 。 | 模型 预测 [ MASK ] 的 词 。
