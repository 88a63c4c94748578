"""Sentences and words: nothing lost, nothing across documents, and newlines read as the corpus means them."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from bertwright.corpus.sentences import Newlines, cut_words, detect_newlines, split_sentences

PIECES = [
    "Dr. Smith went home.",
    "He said: “Stop it!” ",
    "Is it 3.14?",
    "no mark",
    "你好。",
    "他走了！",
    "e.g. this",
    "\n",
    "\n\n",
    " ",
    "...",
    "x\n",
]


@pytest.mark.parametrize("newline", ["paragraph", "wrapped"])
@pytest.mark.parametrize("language", ["en", "zh", "unknown"])
def test_the_sentences_of_a_document_are_the_document_but_for_blanks(language: str, newline: Newlines) -> None:
    draw = random.Random(0)
    documents = ["".join(draw.choices(PIECES, k=draw.randrange(12))) for _ in range(500)]
    sentences, counts = split_sentences(documents, language, newline=newline)
    assert counts.dtype == np.int64
    ends = np.cumsum(counts)
    for document, start, end in zip(documents, ends - counts, ends, strict=True):
        assert "".join("".join(sentences[start:end]).split()) == "".join(document.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)
    again, counts_again = split_sentences(pa.array(documents), language, newline=newline)
    assert again == sentences
    assert counts_again.tolist() == counts.tolist()


def test_a_newline_ends_a_sentence_or_is_a_blank() -> None:
    text = "A title\nThe first\nsentence. The second.\n\nThird"
    assert split_sentences([text], "en", newline="paragraph")[0] == [
        "A title", "The first", "sentence.", "The second.", "Third",
    ]  # fmt: skip
    assert split_sentences([text], "en", newline="wrapped")[0] == [
        "A title The first sentence.", "The second.", "Third",
    ]  # fmt: skip
    assert split_sentences(["他来到北\n京大学"], "zh", newline="wrapped")[0] == ["他来到北京大学"]


def test_whether_lines_are_wrapped_is_told_from_a_sample() -> None:
    words = ("the quick brown fox jumps over a lazy dog and then walks home " * 40).split()
    wrapped = "\n".join(" ".join(words[i : i + 13]) for i in range(0, 390, 13))
    assert detect_newlines([wrapped]) == "wrapped"
    assert detect_newlines([wrapped.replace("\n", " ")] * 3) == "paragraph"
    assert (
        detect_newlines(["\n".join(f"This is sentence number {n} of a list of many." for n in range(30))])
        == "paragraph"
    )
    assert detect_newlines(["\n".join(["A long paragraph of text that goes on " * 9] * 9)]) == "paragraph"
    assert detect_newlines(["\n".join(["A verse is short", "and never wrapped"] * 9)]) == "paragraph"
    assert detect_newlines(["\n".join(["他来到北京大学读书并且认识了很多新的朋友他们一起学习和生活"] * 9)]) == "wrapped"
    assert detect_newlines([]) == "paragraph"


def test_chinese_is_cut_into_words_and_other_letters_are_not() -> None:
    words, counts = cut_words(["他来到北京大学。", "", "喝café，用iPhone 12", "naïve словарь 한국어"])
    assert words == [
        "他",
        "来到",
        "北京大学",
        "。",
        "喝",
        "café",
        "，",
        "用",
        "iPhone",
        "12",
        "naïve",
        "словарь",
        "한국어",
    ]
    assert counts.tolist() == [4, 0, 6, 3]
    assert cut_words([])[0] == []


def test_the_words_of_a_sentence_are_the_sentence_but_for_blanks() -> None:
    draw = random.Random(0)
    alphabet = "他来到北京大学的一是不了人我在有 ，。aéz 9_-.ы한"
    sentences = ["".join(draw.choices(alphabet, k=draw.randrange(30))) for _ in range(1000)]
    words, counts = cut_words(sentences)
    ends = np.cumsum(counts)
    for sentence, start, end in zip(sentences, ends - counts, ends, strict=True):
        assert "".join(words[start:end]) == "".join(sentence.split())
