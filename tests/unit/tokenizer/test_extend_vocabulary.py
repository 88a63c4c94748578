"""A tokenizer with pieces of a text added: they are those that save most, and all other text keeps its tokens."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from bertwright.corpus.given_vocabulary import changed_tokens, count_words
from bertwright.errors import TokenizerError
from bertwright.rng import stream
from bertwright.tokenizer.choose_pieces import LEAST_SAVED, PieceChooser
from bertwright.tokenizer.extend_vocabulary import Piece, extend_vocabulary
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.tokenizer.ragged import Ragged
from bertwright.tokenizer.train_vocabulary import KINDS, train_tokenizer

STEMS = ["tokenization", "vocabularies", "segmentation", "initialisation", "naïveté", "don't", "x86_64", "re-encode"]
DOMAIN = [f"{word} and {STEMS[(k * 3 + 1) % len(STEMS)]}s, un{word}; the {word}." for k, word in enumerate(STEMS * 12)]
GENERAL = [
    "The cat sat on the mat while the rain went on and on, and nobody in the house said a word.",
    "A river runs past the old mill; its water is cold, clear and full of small fish in the spring.",
    "Where is the station, and when does the next train to the city leave? Nobody here can tell me.",
    "She read the letter twice, put it back into the drawer and went out to look for the children.",
    "  Blanks,  commas, tabs\tand lines\nstay; 3.14 too.", "Zürich ﬁ ½ ＡＢ 中文 □□ \U00012031", "",
    "tokenizationx xvocabularies segment ationsegmentation unintended",
]  # fmt: skip


@pytest.fixture(scope="module", params=list(KINDS))
def given(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp(request.param)
    return train_tokenizer(GENERAL * 3, folder=folder, vocab_size=512, kind=request.param)


def _extended(given: Tokenizer, folder: Path, most: int, texts: list[str]) -> tuple[Tokenizer, list[Piece]]:
    text, pieces = extend_vocabulary(given, count_words([texts], given), most)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    return load_tokenizer(folder), pieces


def test_the_text_takes_fewer_tokens_and_all_else_keeps_its_own(given: Tokenizer, tmp_path: Path) -> None:
    extended, pieces = _extended(given, tmp_path, 20, DOMAIN)
    assert len(pieces) == 20 == extended.vocab_size - given.vocab_size
    assert extended.tokens[given.vocab_size :] == [piece.name for piece in pieces]
    assert extended.special == given.special
    before, after = (sum(len(one.encode(text)) for text in DOMAIN) for one in (given, extended))
    assert after < 0.8 * before
    counts = changed_tokens(given, extended, [*GENERAL, *DOMAIN])
    assert counts is not None
    assert before < counts["tokens"]
    assert 0 < counts["changed"] < counts["tokens"]


def test_new_tokens_join_old_ones(given: Tokenizer, tmp_path: Path) -> None:
    extended, pieces = _extended(given, tmp_path, 20, DOMAIN)
    stands_for = {given.vocab_size + place: list(piece.old_ids) for place, piece in enumerate(pieces)}
    for text in [*DOMAIN, *GENERAL]:
        if given.special.unk in given.encode(text):
            continue
        whole = [i for token in extended.encode(text) for i in stands_for.get(token, [token])]
        assert whole == given.encode(text)


def test_the_first_piece_is_the_one_that_saves_most_when_texts_are_encoded(given: Tokenizer, tmp_path: Path) -> None:
    """Any run of tokens in any word is tried as the only piece; of BPE pairs alone, which is what a merge joins."""
    texts = [text for text in DOMAIN[:40] if given.special.unk not in given.encode(text)]
    words = count_words([texts], given)
    bare = Backend.from_str(json.dumps({"model": json.loads(given.backend.to_str())["model"], "added_tokens": []}))
    rows = {word: tuple(bare.encode(word, add_special_tokens=False).ids) for word in words}
    longest = 2 if isinstance(given.backend.model, models.BPE) else 10
    saves: Counter[tuple[int, ...]] = Counter()
    for word, row in rows.items():
        for first in range(len(row)):
            for last in range(first + 2, min(first + longest, len(row)) + 1):
                saves[row[first:last]] += words[word] * (last - first - 1)
    extended, pieces = _extended(given, tmp_path, 1, texts)
    saved = sum(len(given.encode(text)) - len(extended.encode(text)) for text in texts)
    assert saves[pieces[0].old_ids] == max(saves.values())
    assert saved == pytest.approx(max(saves.values()), rel=0.02)


def test_a_character_that_was_unknown_becomes_a_token(tmp_path: Path) -> None:
    for kind in ("wordpiece", "unigram"):
        folder = tmp_path / kind
        given = train_tokenizer(["plain words alone"] * 9, folder=folder, vocab_size=512, kind=kind)
        assert given.special.unk in given.encode("a☃b")
        (tmp_path / f"{kind}-new").mkdir()
        extended, pieces = _extended(given, tmp_path / f"{kind}-new", 9, ["plain ☃ words"] * 9)
        assert given.special.unk not in extended.encode("plain ☃")
        assert any("☃" in piece.name and not set(piece.old_ids) - set(given.encode("▁ plain")) for piece in pieces)


def test_fewer_pieces_where_the_text_has_no_more(given: Tokenizer, tmp_path: Path) -> None:
    _, pieces = _extended(given, tmp_path, 100_000, DOMAIN)
    assert 20 < len(pieces) < 2000
    assert len({piece.name for piece in pieces}) == len(pieces)


def test_tokenizers_that_cannot_be_extended_are_refused(tmp_path: Path) -> None:
    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5, "b</w>": 6, "ab</w>": 7}
    for model in (
        models.WordLevel(vocab, unk_token="[UNK]"),
        models.BPE(vocab, [("a", "b</w>")], end_of_word_suffix="</w>", unk_token="[UNK]"),
    ):
        backend = Backend(model)
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        backend.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(TokenizerError, match="--new-tokenizer"):
            extend_vocabulary(load_tokenizer(tmp_path), {"ab": 9}, 3)


def test_pieces_are_chosen_as_by_trying_all_each_time() -> None:
    random = stream("pieces", 0)
    words = [tuple(random.integers(0, 4, size=random.integers(1, 6)).tolist()) for _ in range(60)]
    counts, costs = random.integers(1, 9, size=60), np.array([1, 1, 1, 3])
    flat = np.array([token for word in words for token in word])
    chooser = PieceChooser(Ragged(flat, np.array([len(word) for word in words])), counts, costs[flat])
    chosen = [tuple(flat[place : place + length].tolist()) for place, length in chooser.choose()]
    state = [([((token,), int(costs[token])) for token in word]) for word in words]
    for piece in chosen:
        saves = _saves(state, counts)
        assert saves[piece] == max(saves.values())
        state = [_joined(word, piece) for word in state]
    assert max(_saves(state, counts).values(), default=0) < LEAST_SAVED
    assert len(chosen) > 20


Parts = list[tuple[tuple[int, ...], int]]


def _saves(state: list[Parts], counts: np.ndarray) -> Counter[tuple[int, ...]]:
    """Return what each run of parts would save in all words, occurrences of it in a word that overlap counted once."""
    saves: Counter[tuple[int, ...]] = Counter()
    for word, count in zip(state, counts.tolist(), strict=True):
        runs = {
            tuple(token for part, _ in word[first:last] for token in part)
            for first in range(len(word))
            for last in range(first + 1, len(word) + 1)
        }
        for run in runs:
            saves[run] += count * (sum(cost for _, cost in word) - sum(cost for _, cost in _joined(word, run)))
    return saves


def _joined(word: Parts, run: tuple[int, ...]) -> Parts:
    """Return a word with each occurrence of a run as one part, from the left."""
    parts: Parts = []
    place = 0
    while place < len(word):
        found = next(
            (
                last
                for last in range(place + 1, len(word) + 1)
                if tuple(token for part, _ in word[place:last] for token in part) == run
            ),
            None,
        )
        parts.append(word[place] if found is None else (run, 1))
        place = place + 1 if found is None else found
    return parts
