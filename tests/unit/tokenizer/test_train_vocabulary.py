"""Training gives full vocabularies of rounded size with the special tokens first, and the same file twice."""

from pathlib import Path

import pytest

from bertwright.errors import TokenizerError
from bertwright.rng import stream
from bertwright.tokenizer.load import SpecialIds
from bertwright.tokenizer.train_vocabulary import train_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyzéöß"


def _texts(seed: int, words: int = 3000) -> list[str]:
    """Random words, many of them equally frequent: ties everywhere."""
    random = stream("test words", seed)
    lexicon = ["".join(random.choice(list(LETTERS), size=random.integers(1, 9))) for _ in range(600)]
    return [" ".join(random.choice(lexicon, size=words // 10)) + "." for _ in range(10)]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_special_tokens_come_first_and_the_size_is_rounded(tmp_path: Path, kind: str) -> None:
    tokenizer = train_tokenizer(_texts(1), folder=tmp_path, vocab_size=1000, kind=kind)
    assert tokenizer.vocab_size == 1024
    assert tokenizer.special == SpecialIds(0, 1, 2, 3, 4)
    assert len(set(tokenizer.tokens)) == 1024
    pair = tokenizer.backend.encode("ab", "cd")
    assert (pair.tokens[0], pair.tokens[-1]) == ("[CLS]", "[SEP]")
    assert pair.type_ids[0] == 0
    assert pair.type_ids[-1] == 1


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_the_same_text_gives_the_same_file(tmp_path: Path, kind: str) -> None:
    files = []
    for run in ("first", "second", "third"):
        train_tokenizer(_texts(2), folder=tmp_path / run, vocab_size=1024, kind=kind)
        files.append((tmp_path / run / "tokenizer.json").read_bytes())
    assert files[0] == files[1] == files[2]


def test_a_poor_text_is_filled_with_unused_tokens(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["to be or not to be"] * 5, folder=tmp_path, vocab_size=512)
    assert tokenizer.vocab_size == 512
    assert tokenizer.tokens[-1].startswith("[unused")
    assert tokenizer.decode(tokenizer.encode("To be!")) == "to be"
    assert tokenizer.encode("[unused0]")[0] != tokenizer.tokens.index("[unused0]")


def test_cased_keeps_capitals_and_accents(tmp_path: Path) -> None:
    cased = train_tokenizer(["Éa Éa éa ea"] * 5, folder=tmp_path / "cased", vocab_size=512, lowercase=False)
    uncased = train_tokenizer(["Éa Éa éa ea"] * 5, folder=tmp_path / "uncased", vocab_size=512)
    assert len({tuple(cased.encode(word)) for word in ("Éa", "éa", "ea")}) == 3
    assert len({tuple(uncased.encode(word)) for word in ("Éa", "éa", "ea")}) == 1


def test_every_common_chinese_character_gets_a_token(tmp_path: Path) -> None:
    characters = [chr(0x4E00 + i) for i in range(3000)]
    tokenizer = train_tokenizer(["".join(characters)] * 3, folder=tmp_path, vocab_size=4096)
    assert set(characters) <= set(tokenizer.tokens)
    assert not any(token.startswith("##") for token in tokenizer.tokens)


def test_impossible_wishes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="no text"):
        train_tokenizer([], folder=tmp_path, vocab_size=1024)
    with pytest.raises(TokenizerError, match="too small"):
        train_tokenizer(["a"], folder=tmp_path, vocab_size=100)
    with pytest.raises(TokenizerError, match="wordpiece, bpe, unigram"):
        train_tokenizer(["a"], folder=tmp_path, vocab_size=1024, kind="characters")
