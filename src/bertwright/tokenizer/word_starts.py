"""Turns token ids into word starts, for any tokenizer, so that whole words can be masked and counted.

Where a word starts is read off tables made once per vocabulary, one entry a token; no token is looked at in Python.
WordPiece says it itself: a word starts wherever a token lacks "##". Byte-level BPE and Unigram only mark blanks, so
there a word also starts where letters, digits and other characters meet, and every CJK character is a word, unless
the words themselves are given.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers

from bertwright.tokenizer.alphabet import is_cjk
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.ragged import Ragged

INSIDE, LETTER, DIGIT, OTHER, CJK, BLANK, ENDED = range(7)
METASPACE = "▁"


@dataclass(frozen=True)
class WordRule:
    """Tables over a vocabulary of V tokens.

    opens  [V] bool   a word starts at this token whatever comes before it
    first  [V] uint8  class of its first character; INSIDE for a later byte of a character
    last   [V] uint8  class of its last character; INSIDE where the token before decides, BLANK for a blank alone
    """

    opens: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def starts(self, sentences: Ragged) -> np.ndarray:
        """Return bool [T]: does a word start at each of the T tokens of N sentences?"""
        ids = sentences.values
        starts: np.ndarray = self.opens[ids]
        if self.first.any() and len(ids):
            first, last = self.first[ids[1:]], _carried(self.last[ids[:-1]])
            meets = (first != last) | (first == CJK)
            starts[1:] |= meets & (first != INSIDE) & (last != BLANK)
        return np.asarray(starts | sentences.begins)


def word_rule(tokenizer: Tokenizer) -> WordRule:
    """Return the rule for a tokenizer, from its model and decoder."""
    state: dict[str, Any] = json.loads(tokenizer.backend.to_str())
    prefix = state["model"].get("continuing_subword_prefix")
    if prefix:
        whole = np.array([not token.startswith(prefix) for token in tokenizer.tokens])
        nothing = np.full(len(whole), INSIDE, dtype=np.uint8)
        return WordRule(whole, nothing, nothing)
    suffix = state["model"].get("end_of_word_suffix") or ""
    to_bytes = _byte_characters() if is_byte_level(state) else None
    ends = [_ends_of(token, suffix=suffix, to_bytes=to_bytes) for token in tokenizer.tokens]
    opens, first, last = zip(*ends, strict=True)
    return WordRule(np.array(opens), np.array(first, dtype=np.uint8), np.array(last, dtype=np.uint8))


def token_texts(tokenizer: Tokenizer) -> list[str | None]:
    """Return the text of each token, with a blank before it where it begins a word; None of special and unused ones.

    Of bytes that are no whole characters the text has surrogates.
    """
    state: dict[str, Any] = json.loads(tokenizer.backend.to_str())
    prefix, suffix = (state["model"].get(name) or "" for name in ("continuing_subword_prefix", "end_of_word_suffix"))
    to_bytes = _byte_characters() if is_byte_level(state) else None
    special = {"", *tokenizer.reserved}

    def text_of(token: str) -> str | None:
        if token in special:
            return None
        if prefix:
            return token.removeprefix(prefix) if token.startswith(prefix) else f" {token}"
        return _surface(token.removesuffix(suffix), to_bytes)

    return [text_of(token) for token in tokenizer.tokens]


def is_byte_level(state: dict[str, Any]) -> bool:
    """Say whether the tokens of a tokenizer.json are bytes, written as characters."""
    return "ByteLevel" in json.dumps([state["pre_tokenizer"], state["decoder"]])


def wants_leading_blank(tokenizer: Tokenizer) -> bool:
    """Return True where " word" and "word" are different tokens, so that a sentence needs the blank before it."""
    state: dict[str, Any] = json.loads(tokenizer.backend.to_str())
    splitters = state["pre_tokenizer"] or {}
    steps: list[dict[str, Any]] = splitters.get("pretokenizers", [splitters])
    return any(step.get("type") == "ByteLevel" and not step.get("add_prefix_space") for step in steps)


def _carried(last: np.ndarray) -> np.ndarray:
    """Give each INSIDE the class of the token before it, so that the later bytes of a character count as the first."""
    places = np.where(last == INSIDE, 0, np.arange(len(last)))
    carried: np.ndarray = last[np.maximum.accumulate(places)]
    return carried


def _ends_of(token: str, *, suffix: str, to_bytes: dict[str, int] | None) -> tuple[bool, int, int]:
    """Return (opens, first, last) of one token."""
    closed = bool(suffix) and token.endswith(suffix)
    text = _surface(token.removesuffix(suffix) if closed else token, to_bytes)
    bare = text.lstrip()
    blank = len(bare) < len(text)
    if not bare:
        return blank, INSIDE, ENDED if closed else BLANK if blank else INSIDE
    return blank, _class_of(bare[0]), ENDED if closed else _class_of(bare[-1])


def _surface(token: str, to_bytes: dict[str, int] | None) -> str:
    """Return the text of a token; bytes that are not whole characters become surrogates (see _class_of)."""
    if to_bytes is None:
        return token.replace(METASPACE, " ")
    if any(character not in to_bytes for character in token):
        return token
    return bytes(to_bytes[character] for character in token).decode("utf-8", "surrogateescape")


def _class_of(character: str) -> int:
    if is_cjk(character) or "\udce3" <= character <= "\udce9":  # a first byte of U+3000 to U+9FFF, cut off
        return CJK
    if "\udc80" <= character <= "\udcbf":  # a later byte of a character
        return INSIDE
    if "\udcc0" <= character <= "\udcff":
        return LETTER
    category = unicodedata.category(character)
    if category[0] in "LM":
        return LETTER
    return DIGIT if category[0] == "N" else OTHER


def _byte_characters() -> dict[str, int]:
    """Return which byte each character of byte-level BPE stands for (Radford et al. 2019)."""
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    printable = [byte for byte in range(256) if chr(byte) in alphabet]
    others = [byte for byte in range(256) if chr(byte) not in alphabet]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
