"""Word starts come out right for WordPiece, byte-level BPE and Unigram."""

from pathlib import Path

import numpy as np
import pytest

from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.ragged import Ragged
from bertwright.tokenizer.train_vocabulary import train_tokenizer
from bertwright.tokenizer.word_starts import wants_leading_blank, word_rule

TEXT = "unbelievable words, believe 12 in42 中文 café"


def _words(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the decoded words of a text, told by the word starts."""
    ids = np.array(tokenizer.encode(text))
    starts = word_rule(tokenizer).starts(Ragged(ids, np.array([len(ids)])))
    assert starts[0]
    groups = np.split(ids, np.flatnonzero(starts)[1:])
    return [tokenizer.decode(group.tolist()).strip() for group in groups]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_words_are_found(tmp_path: Path, kind: str) -> None:
    texts = [TEXT.replace("中文", "中 文")] * 3
    tokenizer = train_tokenizer(texts, folder=tmp_path, vocab_size=512, kind=kind, lowercase=False)
    mixed = ["in42"] if kind == "wordpiece" else ["in", "42"]
    expected = ["unbelievable", "words", ",", "believe", "12", *mixed, "中", "文", "café"]
    assert _words(tokenizer, TEXT) == expected


def test_bytes_of_unknown_characters_stay_together(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["abc"] * 3, folder=tmp_path, vocab_size=512, kind="bpe")
    assert _words(tokenizer, "a中文b né") == ["a", "中", "文", "b", "né"]


def test_each_sentence_starts_a_word(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([TEXT] * 3, folder=tmp_path, vocab_size=512, kind="bpe")
    ids = np.array(tokenizer.encode("cafécafé"))
    counts = np.array([0, 1, 0, len(ids) - 1])
    assert np.flatnonzero(word_rule(tokenizer).starts(Ragged(ids, counts))).tolist() == [0, 1]


def test_given_words() -> None:
    assert Ragged(np.arange(6), np.array([2, 0, 1, 3])).begins.tolist() == [True, False, True, True, False, False]


def test_who_wants_the_blank_before(tmp_path: Path) -> None:
    for kind, wants in (("wordpiece", False), ("bpe", True), ("unigram", False)):
        tokenizer = train_tokenizer([TEXT] * 3, folder=tmp_path / kind, vocab_size=512, kind=kind)
        assert wants_leading_blank(tokenizer) is wants
