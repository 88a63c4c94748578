"""Turns a tokenizer and the words of a text into the same tokenizer with pieces of that text added to its vocabulary.

Added so that nothing else changes: where no new piece stands, a text has the tokens it had, with the same ids.

    WordPiece  takes the longest piece that fits, so a piece is a token more in the list
    BPE        new merges come after all old ones, and join what these leave
    Unigram    a new piece scores what its old pieces score together, and a hair more for each token it saves; so the
               best path of old pieces stays the best, and of the ways to join them the one of fewest tokens is taken
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from bertwright.errors import TokenizerError
from bertwright.tokenizer.choose_pieces import LEAST_SAVED, PieceChooser
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.ragged import Ragged

HAIR = 1e-6
"""Log-probability by which a Unigram piece beats its old pieces, for each token it saves. Scores are float64."""
FIRST_SIGN = 0x10000
"""Code point that stands for token 0 while merges are chosen: from here on none is a surrogate."""
REPEATED = 10_000
"""Times that one word is repeated in a text for the trainer of merges."""
SPARE = 1.1
"""Merges that are asked for, for each that is wanted: some make a token that there is already."""


@dataclass(frozen=True)
class Piece:
    """A new token: its name, the old ids it stands for, how many characters of it were unknown, its merge in BPE."""

    name: str
    old_ids: tuple[int, ...]
    unknown: int = 0
    merge: tuple[str, str] | None = None


def extend_vocabulary(tokenizer: Tokenizer, words: Mapping[str, int], most: int) -> tuple[str, list[Piece]]:
    """Return the tokenizer.json with up to `most` pieces more, and the pieces in the order of their ids.

    `words` are how often each word stands in a text, as the normaliser and pre-tokenizer of the tokenizer cut it (see
    `words_of`). The ids of new tokens follow `tokenizer.vocab_size`. Of a piece that would save fewer than 5 tokens of
    the text nothing is learned, so there may be fewer than `most`. Raises TokenizerError for a tokenizer that cannot be
    extended like this.
    """
    state = json.loads(tokenizer.backend.to_str())
    model = state["model"]
    _require_extendable(model, tokenizer)
    names, counts = list(words), np.fromiter(words.values(), dtype=np.int64, count=len(words))
    _own_added_tokens(state, tokenizer)
    pieces: list[Piece] = []
    merges: list[list[str]] = []
    known = set(tokenizer.tokens)
    for piece in KINDS[model["type"]](state, tokenizer.tokens, names, counts, most):
        if piece.name not in known and len(pieces) == most:
            break
        if piece.merge is not None:
            merges.append(list(piece.merge))
        if piece.name not in known:
            known.add(piece.name)
            pieces.append(piece)
    _add(model, pieces, merges, first=tokenizer.vocab_size)
    return json.dumps(state, ensure_ascii=False), pieces


def _require_extendable(model: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    kind = model.get("type")
    odd = [name for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout") if model.get(name)]
    if kind == "BPE" and (odd or model.get("byte_fallback")):
        kind = f"BPE with {(odd or ['byte_fallback'])[0]}"
    if kind not in KINDS:
        raise TokenizerError(
            f"{tokenizer.path} is a {kind} tokenizer, to which pieces cannot be added without changing other text; "
            "give --new-tokenizer to train another vocabulary, or neither"
        )


def _pieces_of_runs(
    state: dict[str, Any], names: list[str], words: Sequence[str], counts: np.ndarray, most: int
) -> Iterator[Piece]:
    """Yield pieces of WordPiece and Unigram: runs of tokens inside words, by the tokens they save.

    A character that the vocabulary lacks counts as many tokens as it has bytes, as in a vocabulary with a token a byte.
    """
    model, old_size = state["model"], len(names)
    prefix = model.get("continuing_subword_prefix") or ""
    lacking = _lacking_characters(model, words, prefix, names)
    rows = _encoded(_with_characters(model, lacking, old_size), words)
    unknown = rows.values == _unknown_id(model)
    odd = np.zeros(len(words), dtype=bool)
    odd[np.repeat(np.arange(len(words)), rows.lengths)[unknown]] = True
    kept = np.flatnonzero(~odd)
    rows, counts = rows.take(kept), counts[kept]
    every = [*names, *lacking]
    costs = np.ones(len(every), dtype=np.int64)
    costs[old_size:] = [len(name.removeprefix(prefix).encode("utf-8", "surrogatepass")) for name in lacking]
    chooser = PieceChooser(rows, counts, costs[rows.values])
    ids = rows.values.tolist()
    for place, length in chooser.choose():
        run = ids[place : place + length]
        joined = every[run[0]] + "".join(every[token].removeprefix(prefix) for token in run[1:])
        old_ids = tuple(token for token in run if token < old_size)
        yield Piece(joined, old_ids, unknown=length - len(old_ids))


def _lacking_characters(model: Mapping[str, Any], words: Sequence[str], prefix: str, names: list[str]) -> list[str]:
    """Return the tokens of single characters that the words would need and the vocabulary has not, sorted."""
    first = {word[0] for word in words if word}
    later = {f"{prefix}{character}" for character in set("".join(word[1:] for word in words))}
    return sorted((first | later) - set(names))


def _with_characters(model: Mapping[str, Any], lacking: Sequence[str], first: int) -> dict[str, Any]:
    """Return the model with tokens of single characters added; none of these changes a word that was known."""
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        return {**model, "vocab": vocab | {name: first + place for place, name in enumerate(lacking)}}
    lowest = min(score for _, score in vocab)
    return {**model, "vocab": [*vocab, *([name, lowest] for name in lacking)]}


def _pieces_of_merges(
    state: dict[str, Any], names: list[str], words: Sequence[str], counts: np.ndarray, most: int
) -> Iterator[Piece]:
    """Yield merges of BPE in their order: it is trained on from where the old merges end.

    The trainer of `tokenizers` does it: a character stands for each old token, so that these are its alphabet.
    """
    model = state["model"]
    rows = _encoded(model, words)
    unknown = _unknown_id(model)
    signs = [chr(FIRST_SIGN + token) for token in range(len(names))]
    starts, ids = rows.starts.tolist(), rows.values.tolist()
    some = [
        ("".join(signs[token] for token in ids[start : start + length]), count)
        for start, length, count in zip(starts, rows.lengths.tolist(), counts.tolist(), strict=True)
        if length > 1 and unknown not in ids[start : start + length]
    ]
    old = set(names)
    dead: set[str] = set()
    for left, right in _merges_of(some, round(SPARE * most) + 100):
        name = "".join(names[ord(sign) - FIRST_SIGN] for sign in left + right)
        if name in old or left in dead or right in dead:
            dead.add(left + right)
            continue
        merge = tuple("".join(names[ord(sign) - FIRST_SIGN] for sign in half) for half in (left, right))
        old_ids = tuple(ord(sign) - FIRST_SIGN for sign in left + right)
        yield Piece(name, old_ids, merge=(merge[0], merge[1]))


def _merges_of(words: Sequence[tuple[str, int]], most: int) -> list[tuple[str, str]]:
    """Return the merges that byte-pair encoding learns of words and how often each occurs, most frequent pair first."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.CharDelimiterSplit("\n")
    alphabet = len(set("".join(word for word, _ in words)))
    trainer = trainers.BpeTrainer(vocab_size=alphabet + most, min_frequency=LEAST_SAVED, show_progress=False)
    trained.train_from_iterator(_repeated(words), trainer)
    return [(left, right) for left, right in json.loads(trained.to_str())["model"]["merges"]]


def _repeated(words: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Yield texts in which each word stands as often as it occurs, a line a word."""
    for word, count in words:
        while count > 0:
            yield f"{word}\n" * min(count, REPEATED)
            count -= REPEATED


KINDS: dict[str, Callable[..., Iterator[Piece]]] = {
    "WordPiece": _pieces_of_runs,
    "Unigram": _pieces_of_runs,
    "BPE": _pieces_of_merges,
}
"""How pieces are chosen, by the type of model."""


def _encoded(model: Mapping[str, Any], words: Sequence[str]) -> Ragged:
    """Return the ids of each word, by the model alone: words are normalised and cut already."""
    bare = tokenizers.Tokenizer.from_str(json.dumps({"version": "1.0", "model": model, "added_tokens": []}))
    encoded = [one.ids for one in bare.encode_batch_fast(list(words), add_special_tokens=False)]
    lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    return Ragged(np.fromiter((i for row in encoded for i in row), dtype=np.int64, count=int(lengths.sum())), lengths)


def _unknown_id(model: Mapping[str, Any]) -> int:
    """Return the id that a model gives what it does not know, -1 where it has none."""
    if "unk_id" in model:
        return -1 if model["unk_id"] is None else int(model["unk_id"])
    return int(model["vocab"].get(model.get("unk_token"), -1))


def _own_added_tokens(state: dict[str, Any], tokenizer: Tokenizer) -> None:
    """Give tokens that stand beside the vocabulary their place in it, so that new ids do not meet theirs."""
    vocab = state["model"]["vocab"]
    if isinstance(vocab, dict):
        for token in state["added_tokens"]:
            vocab.setdefault(token["content"], token["id"])
        return
    lowest = min(score for _, score in vocab)
    for place in range(len(vocab), tokenizer.vocab_size):
        vocab.append([tokenizer.tokens[place] or f"[unused-{place}]", lowest])


def _add(model: dict[str, Any], pieces: Sequence[Piece], merges: Sequence[list[str]], *, first: int) -> None:
    """Put pieces into the vocabulary of a model, their ids from `first` on."""
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        vocab.update({piece.name: first + place for place, piece in enumerate(pieces)})
        if merges:
            model["merges"] += merges
        return
    scores = [score for _, score in vocab]
    lowest = min(scores)
    for piece in pieces:
        together = sum(scores[token] for token in piece.old_ids) + lowest * piece.unknown
        vocab.append([piece.name, together + HAIR * (len(piece.old_ids) + piece.unknown - 1)])
