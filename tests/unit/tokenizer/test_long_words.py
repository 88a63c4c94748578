"""Words without bound stay out of vocabulary training, or come in pieces; ordinary text passes as it is."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers

from bertwright.errors import TokenizerError
from bertwright.rng import stream
from bertwright.tokenizer.long_words import (
    PIECE,
    UNIGRAM_LONGEST,
    BpeTexts,
    TextsWithBoundedWords,
    UnigramTexts,
    WordPieceTexts,
)
from bertwright.tokenizer.train_vocabulary import train_tokenizer, words_of

ORDINARY = [
    "A boat of wood, twenty-two metres long, sails from Lübeck to Visby; see https://example.org/a/b-c_d?e=f.",
    "北海的风很大。船在海上走了三天三夜，" * 80,
    "Donaudampfschifffahrtsgesellschaftskapitän " * 40 + "-" * 300,
]
DNA = "".join(stream("dna", 0).choice(list("acgt"), size=200_000))


def _wordpiece_texts(texts: list[str]) -> WordPieceTexts:
    backend = Backend(models.WordPiece())
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return WordPieceTexts(texts, words_of(backend))


def _bounded(kind: str, texts: list[str]) -> TextsWithBoundedWords:
    return {"wordpiece": _wordpiece_texts, "bpe": BpeTexts, "unigram": UnigramTexts}[kind](texts)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_ordinary_text_passes_as_it_is(kind: str) -> None:
    bounded = _bounded(kind, ORDINARY)
    assert [text for texts in bounded for text in texts] == ORDINARY
    assert bounded.long_fraction == 0


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("a" * 100, True),
        ("a" * 101, False),
        ("é" * 101, False),
        ("한" * 33, True),
        ("한" * 34, False),  # three letters each once accents are taken off
        ("_-" * 80, True),
        ("QUJDREVGR0hJSktM/" * 6, False),
    ],
)
def test_wordpiece_leaves_out_what_bert_makes_unknown(word: str, kept: bool) -> None:
    bounded = _wordpiece_texts([f"before {word} after"])
    assert list(bounded) == ([[f"before {word} after"]] if kept else [["before ", " after"]])
    assert bounded.long_fraction == pytest.approx(0 if kept else len(word) / (len(word) + 13))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_are_spread_over_a_long_word(kind: str) -> None:
    parts = next(iter(_bounded(kind, [f"the start {DNA} the end"])))
    assert (parts[0], parts[-1]) == ("the start ", " the end")
    assert len(parts) == 102
    assert set(map(len, parts[1:-1])) == {PIECE}
    assert parts[-2] == DNA[-PIECE:]


def test_a_paragraph_without_blanks_is_cut_for_unigram_alone() -> None:
    paragraph = "海" * (UNIGRAM_LONGEST + 10)
    (parts,) = UnigramTexts([f"a b {paragraph} c"])
    assert "".join(parts) == f"a b {paragraph} c"
    assert max(map(len, parts)) <= UNIGRAM_LONGEST + 4


@pytest.mark.parametrize("word", ["x" * 100_000, DNA])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_word_of_any_length_is_trained_on(tmp_path: Path, kind: str, word: str) -> None:
    tokenizer = train_tokenizer([word, *ORDINARY[:1] * 9], folder=tmp_path, vocab_size=512, kind=kind)
    assert max(map(len, tokenizer.tokens)) <= 256
    assert tokenizer.decode(tokenizer.encode(word)).strip() == word


def test_wordpiece_refuses_a_text_of_long_words(tmp_path: Path) -> None:
    few = [" ".join(ORDINARY[:1] * 9), "x" * 101]
    tokenizer = train_tokenizer(few, folder=tmp_path, vocab_size=512)
    assert max(map(len, tokenizer.tokens)) < 30
    assert tokenizer.encode("x" * 101) == [tokenizer.special.unk]
    with pytest.raises(TokenizerError, match="--kind bpe"):
        train_tokenizer([*ORDINARY[:1], DNA], folder=tmp_path, vocab_size=512, most_long_words=0.2)


def test_counts_begin_anew_with_each_pass() -> None:
    bounded = WordPieceTexts(["a " * 100, ["b" * 200]], str.split)
    shares = [bounded.long_fraction for _ in range(2) for _ in bounded]
    assert shares[1] == shares[3] == bounded.long_fraction == 0.5
    assert np.isclose(shares[0], 0)
