"""Cleaning: what is fixed, what is left alone, and that the screens miss nothing in all of Unicode."""

from __future__ import annotations

import random
import sys
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bertwright.corpus.clean import MAYBE_NOT_NFC, clean

ALL_CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]


def cleaned(text: str) -> str:
    return str(clean(pa.array([text]))[0].as_py())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("schÃ¶n and itâ€™s", "schön and it’s"),
        ("ä½\xa0å¥½", "你好"),
        ("fragrant \x91modern\x92 nose", "fragrant ‘modern’ nose"),
        ("Ã and Â are letters; SÃO PAULO", "Ã and Â are letters; SÃO PAULO"),
        ("e\u0301 \u212b", "é Å"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("a\x00b\x07c\u200bd\ufeffe\u00adf", "abcdef"),
        ("a \t\u00a0 b\tc", "a b c"),
        ("  a  \n\n \n\n  b \n c\n", "a\n\nb\nc"),
        (" \t\n\u3000 ", ""),
        ("plain text, untouched.\n\nReally.", "plain text, untouched.\n\nReally."),
        ("क्षि 👩\u200d👧 한국어", "क्षि 👩\u200d👧 한국어"),
    ],
)
def test_what_is_mended(found: str, expected: str) -> None:
    assert cleaned(found) == expected


def test_documents_keep_their_order_and_number() -> None:
    texts = [f"document {n}" + (" \t x", "", " cafÃ©", " e\u0301")[n % 4] for n in range(100)]
    assert clean(pa.array(texts)).to_pylist() == [cleaned(text) for text in texts]
    assert clean(pa.array([], pa.string())).to_pylist() == []


def test_cleaning_twice_changes_nothing_more() -> None:
    draw = random.Random(0)
    alphabet = " \t\n\r\x00\x85\xa0\u2028\u3000ab.é\u0301你\u1100\u1161\ufeff"
    texts = pa.array(["".join(draw.choices(alphabet, k=30)) for _ in range(20_000)])
    once = clean(texts)
    assert clean(once).equals(once)
    assert not pc.any(pc.match_substring_regex(once, "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]|  |\n\n\n| \n|\n ")).as_py()


def test_the_screen_for_normalisation_misses_no_character() -> None:
    screened = pc.match_substring_regex(pa.array(ALL_CHARACTERS), MAYBE_NOT_NFC).to_pylist()
    passed = [character for character, hit in zip(ALL_CHARACTERS, screened, strict=True) if not hit]
    assert all(unicodedata.is_normalized("NFC", character) for character in passed)
    assert not any(unicodedata.combining(character) for character in passed)
    composing = {part for c in ALL_CHARACTERS for part in unicodedata.normalize("NFD", c)[1:]}
    assert not composing & set(passed)
