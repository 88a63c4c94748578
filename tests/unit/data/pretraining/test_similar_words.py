"""Similar words are those with the same neighbours: words for words, pieces for pieces, none for what never occurs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bertwright.corpus.cooccurrence import count_neighbours
from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.similar_words import SIMILAR, similar_words
from bertwright.tokenizer.load import load_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
KINDS = ("bird", "river", "##ing")
"""Tokens of a kind stand between two of their own; the third kind goes on with words."""
EACH, WAYS = 12, 4


def test_tokens_of_a_kind_are_similar(tmp_path: Path, shards_of: Callable[..., Shards]) -> None:
    """Contexts of a kind are its alone, so all of a token's best are of its kind; special tokens have none."""
    tokens = [*SPECIAL, *(f"{kind}{number}" for kind in KINDS for number in range(EACH))]
    tokens += [f"{side}{kind}{way}" for kind in range(len(KINDS)) for side in "lr" for way in range(WAYS)] + ["never"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    rng, place = np.random.default_rng(0), {token: number for number, token in enumerate(tokens)}
    documents = []
    for _ in range(40):
        text: list[str] = []
        for _ in range(60):
            kind = int(rng.integers(len(KINDS)))
            middle = f"{KINDS[kind]}{rng.integers(EACH)}"
            text += [f"l{kind}{rng.integers(WAYS)}", middle, f"r{kind}{rng.integers(WAYS)}", "[UNK]"]
        documents.append(np.array([place[token] for token in text]))
    shards = shards_of(tmp_path / "data", documents)
    table = similar_words(count_neighbours(shards, len(tokens)), load_tokenizer(tmp_path), vocab_size=len(tokens))
    assert table.shape == (len(tokens), SIMILAR)
    assert (table[: len(SPECIAL)] == -1).all()
    assert (table[place["never"]] == -1).all()
    for kind in KINDS:
        mine = {place[f"{kind}{number}"] for number in range(EACH)}
        for token in mine:
            found = table[token].tolist()
            assert set(found) <= mine - {token}
            assert len(set(found)) == SIMILAR


def test_few_tokens_are_named_again(tmp_path: Path, shards_of: Callable[..., Shards]) -> None:
    """Of three words each has two similar ones, five times; the only piece has none."""
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "a", "b", "c", "##d"]) + "\n", encoding="utf-8")
    rng = np.random.default_rng(1)
    shards = shards_of(tmp_path / "data", [rng.integers(5, 9, 200) for _ in range(4)])
    table = similar_words(count_neighbours(shards, 9), load_tokenizer(tmp_path), vocab_size=9)
    assert [set(table[token].tolist()) for token in (5, 6, 7)] == [{6, 7}, {5, 7}, {5, 6}]
    assert (table[8] == -1).all()
