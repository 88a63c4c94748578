"""Turns an old vocabulary and a new one into where each new token comes from, and keeps it as DATA/tokenizer/*.json.

A model that was trained with the old vocabulary goes on with the new one by it: tokens that are in both keep their
vectors, others get theirs from the old tokens of their text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from bertwright.errors import DataError
from bertwright.files import read_json, write_json
from bertwright.tokenizer.load import INNER, SPECIAL_NAMES, Tokenizer
from bertwright.tokenizer.ragged import Ragged
from bertwright.tokenizer.word_starts import is_byte_level, token_texts

OLD_VOCABULARY = "old_vocabulary.json"
"""The file in DATA/tokenizer."""
FORMAT = 1


@dataclass(frozen=True)
class VocabularyMap:
    """Where each of V tokens comes from among those of an older vocabulary.

    old_sha256  of the bytes of the older tokenizer.json (`digest_of`)
    old_size    tokens of the older vocabulary; a model of it may have more rows, which are padding
    kept        [V] int64  the old id of the same token, special ones by what they are for; -1 where it is new
    pieces      V rows     the old ids of the token's text; a kept one has its own, one of unknown characters none
    """

    old_sha256: str
    old_size: int
    kept: np.ndarray
    pieces: Ragged


def digest_of(tokenizer: Tokenizer) -> str:
    """Return the SHA-256 of the bytes of a tokenizer.json, by which a vocabulary is known again."""
    return hashlib.sha256(tokenizer.json_bytes).hexdigest()


def map_of_extension(old: Tokenizer, old_ids: Sequence[Sequence[int]]) -> VocabularyMap:
    """Return the map of a vocabulary with pieces added to it, from the old ids that each piece stands for."""
    kept = np.concatenate([np.arange(old.vocab_size), np.full(len(old_ids), -1)]).astype(np.int64)
    return VocabularyMap(digest_of(old), old.vocab_size, kept, _ragged([[i] for i in range(old.vocab_size)], old_ids))


def map_of_new(old: Tokenizer, new: Tokenizer) -> VocabularyMap:
    """Return the map of a vocabulary trained anew.

    A token is kept where the old one has a token of the same text that begins a word just as it does; special tokens
    are kept by what they are for, whatever their names.
    """
    old_texts, new_texts = token_texts(old), token_texts(new)
    place_of = {text: place for place, text in reversed(list(enumerate(old_texts))) if text is not None}
    kept = np.array([-1 if text is None else place_of.get(text, -1) for text in new_texts], dtype=np.int64)
    for kind in SPECIAL_NAMES:
        kept[getattr(new.special, kind)] = getattr(old.special, kind)
    fresh = [place for place in np.flatnonzero(kept < 0).tolist() if new_texts[place] is not None]
    found = _old_ids(old, [new_texts[place] for place in fresh])
    rows: list[Sequence[int]] = [[i] if i >= 0 else [] for i in kept.tolist()]
    for place, ids in zip(fresh, found, strict=True):
        rows[place] = ids
    return VocabularyMap(digest_of(old), old.vocab_size, kept, _ragged(rows))


def write_vocabulary_map(folder: Path, found: VocabularyMap, *, how: str, model: str) -> None:
    """Write the map to a folder's old_vocabulary.json; `how` is "extended" or "new", `model` where the old one lay."""
    starts, values = found.pieces.starts.tolist(), found.pieces.values.tolist()
    rows = [values[start : start + length] for start, length in zip(starts, found.pieces.lengths.tolist(), strict=True)]
    new = {str(place): rows[place] for place in np.flatnonzero(found.kept < 0).tolist()}
    write_json(
        folder / OLD_VOCABULARY,
        {
            "format": FORMAT, "how": how, "model": model, "old_sha256": found.old_sha256, "old_size": found.old_size,
            "kept": found.kept.tolist(), "pieces": new,
        },
    )  # fmt: skip


def read_vocabulary_map(folder: Path) -> VocabularyMap | None:
    """Return the map in a DATA folder, or in its tokenizer/; None where its vocabulary has no older one.

    Raises DataError where it is damaged.
    """
    places = (folder / INNER[0] / OLD_VOCABULARY, folder / OLD_VOCABULARY)
    file = next((path for path in places if path.is_file()), None)
    if file is None:
        return None
    try:
        return _checked_map(read_json(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{file} is damaged ({str(error)[:100]}); prepare the data again") from error


def _checked_map(values: dict[str, Any]) -> VocabularyMap:
    if values["format"] != FORMAT:
        raise ValueError(f"format {str(values['format'])[:40]}, not {FORMAT}")
    kept, old_size = np.array(values["kept"], dtype=np.int64), int(values["old_size"])
    rows = [values["pieces"].get(str(place), []) if i < 0 else [i] for place, i in enumerate(kept.tolist())]
    pieces = _ragged(rows)
    if kept.ndim != 1 or (kept >= old_size).any() or ((pieces.values < 0) | (pieces.values >= old_size)).any():
        raise ValueError("it names tokens that the old vocabulary has not")
    return VocabularyMap(str(values["old_sha256"]), old_size, kept, pieces)


def _old_ids(old: Tokenizer, texts: Sequence[str | None]) -> list[list[int]]:
    """Return the ids that an old vocabulary has for the texts of tokens, a blank before those that begin a word."""
    inside, unknown = _inside_words(old), old.special.unk

    def ids_of(backend: tokenizers.Tokenizer, text: str) -> list[int]:
        ids = backend.encode(text, add_special_tokens=False).ids
        return [token for token in ids if token != unknown]

    found = []
    for text in texts:
        whole = (text or "").encode("utf-8", "ignore").decode()  # bytes that are no characters are left out
        ids = ids_of(old.backend if whole.startswith(" ") else inside, whole)
        found.append(ids or ids_of(old.backend, whole))
    return found


def _inside_words(old: Tokenizer) -> tokenizers.Tokenizer:
    """Return a tokenizer that takes every text for the inside of a word."""
    state = json.loads(old.backend.to_str())
    model = state["model"]
    bare: dict[str, Any] = {"added_tokens": [], "post_processor": None}
    prefix = model.get("continuing_subword_prefix")
    if prefix:
        later = {token: place for place, token in enumerate(old.tokens) if token.startswith(prefix)}
        vocab = {token.removeprefix(prefix): place for token, place in later.items()} | later
        vocab.setdefault(model["unk_token"], old.special.unk)
        return tokenizers.Tokenizer.from_str(json.dumps({**state, **bare, "model": {**model, "vocab": vocab}}))
    if is_byte_level(state):
        return old.backend
    return tokenizers.Tokenizer.from_str(json.dumps({**state, **bare, "pre_tokenizer": None}))


def _ragged(*several: Sequence[Sequence[int]]) -> Ragged:
    rows = [row for some in several for row in some]
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return Ragged(np.fromiter((i for row in rows for i in row), dtype=np.int64, count=int(lengths.sum())), lengths)
