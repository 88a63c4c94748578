"""Overlap: thirteen words in a row are found wherever they stand, shorter texts whole, nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bertwright.corpus.dedup.overlap import Overlap
from bertwright.corpus.eval_texts import load_eval_texts
from bertwright.errors import CorpusError
from bertwright.rng import stream

WORDS = [f"w{i}" for i in range(3000)]


def sentence(words: int, *key: int) -> str:
    return " ".join(stream("overlap", *key).choice(WORDS, words))


def found(texts: list[str], corpus: list[str]) -> list[bool]:
    overlap = Overlap(pa.array(texts))
    for document in corpus:
        overlap.look(pa.array([document]))
    return (overlap.found_fractions() > 0).tolist()


def test_thirteen_words_in_a_row_are_found_whatever_stands_between() -> None:
    text = sentence(40, 1)
    middle = " ".join(text.split()[20:33])
    assert found([text], [f"{sentence(50, 2)} {middle.upper().replace(' ', ', ')}! {sentence(9, 3)}"]) == [True]
    assert found([text], [f"{sentence(50, 2)} {' '.join(text.split()[20:32])} {sentence(50, 3)}"]) == [False]


def test_shorter_texts_are_found_whole_alone() -> None:
    short, shortest, four = sentence(9, 4), sentence(5, 5), sentence(4, 6)
    corpus = [f"{sentence(30, 7)} {short} {sentence(3, 8)}", shortest, four]
    assert found([short, shortest, four], corpus) == [True, True, False]
    assert found([short], [" ".join(short.split()[:-1])]) == [False]


def test_words_of_two_documents_are_none_in_a_row() -> None:
    text = sentence(13, 9).split()
    overlap = Overlap(pa.array([" ".join(text)]))
    overlap.look(pa.array([" ".join(text[:7]), " ".join(text[7:])]))
    assert overlap.found_fractions().tolist() == [0.0]


def test_every_planted_text_is_found_and_no_other() -> None:
    texts = [sentence(int(n), 10, i) for i, n in enumerate(stream("lengths").integers(5, 60, 300))]
    corpus = [sentence(200, 11, i) for i in range(300)]
    planted = [i for i in range(300) if i % 3 == 0]
    for i in planted:
        at = len(corpus[i]) // 2
        corpus[i] = f"{corpus[i][:at]} {texts[i]} {corpus[i][at:]}"
    assert np.flatnonzero(found(texts, ["\n".join(corpus)])).tolist() == planted


def test_the_share_counts_sequences() -> None:
    text = sentence(25, 12)
    overlap = Overlap(pa.array([text, ""]))
    overlap.look(pa.array([" ".join(text.split()[:19])]))
    assert overlap.found_fractions().tolist() == [7 / 13, 0.0]


FILES = {
    "a.tsv": "sentence\tlabel\nThe film is a very good one\t1\n",
    "a.csv": 'label,text\n1,"The film is a very good one"\n',
    "semicolons.csv": "text;label\nThe film is a very good one;1\nAnother, film;0\n",
    "lines.csv": 'label,text\n1,"The film is\na very good one"\n0,"Other"\n',
    "long.csv": f'label,text\n1,The film is a very good one\n0,"{"x" * 200_000}"\n',
    "a.jsonl": json.dumps({"x": {"y": ["The film is a very good one"]}}) + "\n" + json.dumps({"z": 3}) + "\n",
    "a.json": json.dumps({"data": [{"p": [{"c": "The film is a very good one"}]}]}),
    "a.en": "Another line\nThe film is a very good one\n",
    "tags.jsonl": json.dumps({"tokens": ["The", "film", "is", "a", "very", "good", "one"], "tags": ["O"] * 7}) + "\n",
    "tags.csv": "tokens,tags\n\"['The', 'film', 'is', 'a', 'very', 'good', 'one']\",O O O O O O O\n",
    "ner.tsv": "# id 0\nThe\tO\nfilm\tB\nis\tO\na\tO\nvery\tO\ngood\tO\none\tO\n\nEnd\tO\n\n",
    "ner.csv": "The,O\nfilm,B\nis,O\na,O\nvery,O\ngood,O\none,O\n\nEnd,O\n\n",
    "ud.conll": "1\tThe\tO\n2\tfilm\tO\n3\tis\tO\n4\ta\tO\n5\tvery\tO\n6\tgood\tO\n7\tone\tO\n",
    "ner.txt": "-DOCSTART- O\n\nThe O\nfilm B\nis O\na O\nvery O\ngood O\none O\n\nEnd O\n\n",
}


@pytest.mark.parametrize("name", FILES)
def test_texts_of_every_kind_of_test_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name])
    assert "The film is a very good one" in [
        text.replace("\n", " ") for text in load_eval_texts(tmp_path / name).to_pylist()
    ]


def test_test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.tsv").touch()
    (tmp_path / "binary.txt").write_bytes(b"\xff\xf1\x00\x01\xff")
    (tmp_path / "no.json").write_text("{")
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    for name in ("absent.tsv", "empty.tsv", "binary.txt", "no.json", "no.parquet"):
        with pytest.raises(CorpusError, match=name):
            load_eval_texts(tmp_path / name)
