"""Running text is cut where CoNLL files cut it."""

from __future__ import annotations

import pytest

from bertwright.tasks.tagging.pretokenize import word_spans


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("He went to Rome.", "He|went|to|Rome|."),
        ("John's U.S. visit, at 3-0 (1,000 fans)!", "John|'s|U.S.|visit|,|at|3-0|(|1,000|fans|)|!"),
        ("O'Brien, Spider-Man and J. R. Smith", "O'Brien|,|Spider-Man|and|J.|R.|Smith"),
        ("iPhone手机A股", "iPhone|手|机|A|股"),
        ("मोदी मुंबई", "मोदी|मुंबई"),
        ("Sa\u0303o Paulo, cafe\u0301", "Sa\u0303o|Paulo|,|cafe\u0301"),
        ("مُحَمَّد", "مُحَمَّد"),
        ("a_b -- 🙂", "a|_|b|-|-|🙂"),
        ("   ", "   "),
    ],
)
def test_words(text: str, words: str) -> None:
    assert [text[begin:end] for begin, end in word_spans(text)] == words.split("|")
