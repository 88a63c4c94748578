"""CoNLL files and their schemes: told apart, written as IOB2 or BIOES, and refused in one sentence where odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.conll import read_conll
from bertwright.tasks.schemes import in_scheme, tag_names, tell_scheme
from bertwright.tasks.tag import Tag

SCHEMES = {
    "IOB1": ("I-A I-A B-A O I-B", "B-A I-A B-A O B-B"),
    "IOB2": ("B-A I-A B-A O B-B", "B-A I-A B-A O B-B"),
    "IO": ("I-A I-A O O I-B", "B-A I-A O O B-B"),
    "BIOES": ("B-A E-A S-A O S-B", "B-A E-A S-A O S-B"),
    "BILOU": ("B-A L-A U-A O U-B", "B-A E-A S-A O S-B"),
    "plain tags": ("NOUN VERB NOUN X DET", "NOUN VERB NOUN X DET"),
}


def conll(path: Path, *sentences: str, separator: str = "\t") -> Path:
    lines = [[f"w{i}{separator}{tag}" for i, tag in enumerate(sentence.split())] for sentence in sentences]
    path.write_text("\n\n".join("\n".join(sentence) for sentence in lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes_are_told_apart_and_written_alike(tmp_path: Path, name: str) -> None:
    given, expected = SCHEMES[name]
    words = read_conll(conll(tmp_path / "a.conll", given, given))
    called, scheme = tell_scheme(words)
    assert called == name
    labels = tag_names(words, scheme)
    assert [labels[tag] for tag in in_scheme(words, scheme, labels)] == expected.split() * 2


def test_a_stray_tag_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = read_conll(conll(tmp_path / "a.conll", *["B-A I-A O B-A"] * 20, "O I-A I-A"))
    called, scheme = tell_scheme(words)
    labels = tag_names(words, scheme)
    assert called == "IOB2"
    assert [labels[tag] for tag in in_scheme(words, scheme, labels)][-3:] == ["O", "B-A", "I-A"]
    assert "1 tags are not IOB2, the first of them on line 102" in capsys.readouterr().err


def test_a_sentence_never_goes_on_in_the_next(tmp_path: Path) -> None:
    words = read_conll(conll(tmp_path / "a.conll", "I-A", "I-A I-A B-A"))
    called, scheme = tell_scheme(words)
    labels = tag_names(words, scheme)
    assert called == "IOB1"
    assert [labels[tag] for tag in in_scheme(words, scheme, labels)] == ["B-A", "B-A", "I-A", "B-A"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\ufeffa O\r\nb B-X\r\n\r\nc O", ["a", "b", "c"]),
        ("\n\n a O\n  b  B-X \n\n\nc O\n\n\n", ["a", "b", "c"]),
        ("a b\tO\n\u00a0\tB-X\n\u3000\tO\n", ["a b", "\u00a0", "\u3000"]),
        ("\u00a0 O\nb B-X\nc\u2028d O\n", ["\u00a0", "b", "c\u2028d"]),
    ],
    ids=["mark and crlf", "blanks", "tabs", "no-break space"],
)
def test_odd_files_are_read_whole(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "a.conll").write_bytes(text.encode())
    found = read_conll(tmp_path / "a.conll")
    assert found.words == words
    assert [found.names[tag] for tag in found.tags] == ["O", "B-X", "O"]


def test_lines_of_conll_2003(tmp_path: Path) -> None:
    file = tmp_path / "a.conll"
    file.write_text("-DOCSTART- -X- -X- O\n\nEU NNP B-NP I-ORG\r\nrejects VBZ B-VP O\r\n\n\n \nPeter NNP B-NP I-PER\n")
    words = read_conll(file)
    assert words.words == ["EU", "rejects", "Peter"]
    assert words.counts.tolist() == [2, 1]
    assert [words.names[tag] for tag in words.tags] == ["I-ORG", "O", "I-PER"]
    assert words.lines.tolist() == [3, 4, 8]
    assert set(read_conll(file, tag_column="2").names) == {"NNP", "VBZ"}
    with pytest.raises(UsageError, match="columns 1 to 4, and none called '5'"):
        read_conll(file, tag_column="5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tO\nb\tO\tO\n", "line 2 has 3 columns where 2 as before were expected"),
        ("a\nb\n", "line 1 has 1 columns where a word and its tag were expected"),
        ("\n\n", "holds no words"),
        ("a\tO\nb\tI-A\nc\tB-B\n", "mixes IOB1 and IOB2: line 2 opens an entity with I-A, line 3 with B-B"),
        ("a\tO\nb\tA\nc\tB-B\n", "line 2 has the tag 'A', though others are marked"),
        ("a\tO\nb\tO\n", "every word of .* has the tag 'O'"),
    ],
)
def test_odd_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.conll").write_text(text)
    with pytest.raises(CorpusError, match=message):
        Tag.begin(tmp_path / "a.conll", ColumnsConfig())


def test_a_type_the_training_file_lacks_is_refused(tmp_path: Path) -> None:
    task, _ = Tag.begin(conll(tmp_path / "a.conll", "B-A I-A O"), ColumnsConfig())
    with pytest.raises(CorpusError, match=r"line 2 has the tag 'B-C', which the training file has no place for"):
        task.read(conll(tmp_path / "b.conll", "O B-C"))
