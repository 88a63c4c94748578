"""Schemes of tags: recognised, learned as IOB2 or BIOES, and refused in one sentence where they are mixed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.base import TrainFile
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.tagging.conll import read_conll, stream_sentences
from bertwright.tasks.tagging.schemes import as_labels, detect_scheme, tag_labels
from bertwright.tasks.tagging.task import Tag

SCHEMES = {
    "IOB1": ("I-A I-A B-A O I-B", "B-A I-A B-A O B-B"),
    "IOB2": ("B-A I-A B-A O B-B", "B-A I-A B-A O B-B"),
    "IO": ("I-A I-A O O I-B", "B-A I-A O O B-B"),
    "IOE1": ("I-A E-A I-A O I-B", "B-A I-A B-A O B-B"),
    "IOE2": ("I-A E-A E-A O E-B", "B-A I-A B-A O B-B"),
    "BIOES": ("B-A E-A S-A O S-B", "B-A E-A S-A O S-B"),
    "BILOU": ("B-A L-A U-A O U-B", "B-A E-A S-A O S-B"),
    "BMES": ("B-A M-A E-A O S-B", "B-A I-A E-A O S-B"),
    "BMEWO": ("B-A M-A E-A O W-B", "B-A I-A E-A O S-B"),
    "plain tags": ("NOUN VERB NOUN X DET", "NOUN VERB NOUN X DET"),
}


def conll(path: Path, *sentences: str, separator: str = "\t") -> Path:
    lines = [[f"w{i}{separator}{tag}" for i, tag in enumerate(sentence.split())] for sentence in sentences]
    path.write_text("\n\n".join("\n".join(sentence) for sentence in lines) + "\n", encoding="utf-8")
    return path


NOTATIONS = {
    "B_TYPE": "O B_A I_A O B_B",
    "b-type": "o b-A i-A o b-B",
    "TYPE-B": "O A-B A-I O B-B",
    "TYPE_B": "O A_B A_I O B_B",
    "type-b": "o A-b A-i o B-b",
    "B:TYPE": "O B:A I:A O B:B",
    "TYPE": "O A A O B",
}


def learned(path: Path, *sentences: str) -> tuple[str, list[str]]:
    """Return what the scheme of a file is, and the tags that are learned."""
    words = read_conll(conll(path, *sentences))
    scheme = detect_scheme(words)
    labels = tag_labels(words, scheme)
    return str(scheme), [labels[tag] for tag in as_labels(words, labels)]


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes_are_recognised_and_learned_alike(tmp_path: Path, name: str) -> None:
    given, expected = SCHEMES[name]
    scheme, tags = learned(tmp_path / "a.conll", given, given)
    assert re.match(rf"{name}(,|$)", scheme)
    assert tags == expected.split() * 2


@pytest.mark.parametrize("example", NOTATIONS)
def test_notations_are_recognised_and_learned_alike(tmp_path: Path, example: str) -> None:
    scheme, tags = learned(tmp_path / "a.conll", NOTATIONS[example])
    assert example in scheme
    assert tags == ["O", "B-A", "I-A", "O", "B-B"]


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        ("O B I O B", "IOB2, tags written as B", "O B I O B"),
        ("o b i o b", "IOB2, tags written as b", "O B I O B"),
        ("B M E S S", "BMES, tags written as B, learned as BIOES", "B I E S S"),
        ("O I I O I", "IO, tags written as I, learned as IOB2", "O B I O B"),
        ("O U B L O", "BILOU, tags written as B, learned as BIOES", "O S B E O"),
        ("I S S I S", "plain tags", "I S S I S"),
        ("O V S O O X Y", "IO, tags written as TYPE, learned as IOB2", "O B-V B-S O O B-X B-Y"),
        ("N V S O N", "plain tags", "N V S O N"),
    ],
)
def test_letters_alone(tmp_path: Path, given: str, name: str, expected: str) -> None:
    assert learned(tmp_path / "a.conll", given) == (name, expected.split())


def test_a_few_invalid_tags_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scheme, tags = learned(tmp_path / "a.conll", *["B-A I-A O B-A"] * 20, "O I-A I-A")
    assert scheme.startswith("IOB2")
    assert tags[-3:] == ["O", "B-A", "I-A"]
    assert re.search("1 tags.*IOB2.*line 102", capsys.readouterr().err)
    scheme, tags = learned(tmp_path / "b.conll", "B-A E-A O B-A", "S-A")
    assert tags == ["B-A", "E-A", "O", "S-A", "S-A"]
    assert re.search("1 tags.*line 4", capsys.readouterr().err)


def test_a_sentence_never_goes_on_in_the_next(tmp_path: Path) -> None:
    scheme, tags = learned(tmp_path / "a.conll", "I-A", "I-A I-A B-A")
    assert scheme.startswith("IOB1")
    assert tags == ["B-A", "B-A", "I-A", "B-A"]


def test_types_that_differ_by_case_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert learned(tmp_path / "a.conll", "B-Loc B-LOC O")[1] == ["B-Loc", "B-LOC", "O"]
    assert "by case" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["O B_A I_A S_B", "O A A B", "O I-A E-A E-B", "o b-A i-A b-B", "O B-A M-A S-B"])
def test_another_file_may_have_another_scheme(tmp_path: Path, scheme: str) -> None:
    task, _ = Tag.from_train_file(TrainFile(conll(tmp_path / "a.conll", "B-A I-A O B-B"), ColumnsConfig()))
    tags = task.read(conll(tmp_path / "b.conll", scheme)).targets
    assert [task.labels[tag] for tag in tags] == ["O", "B-A", "I-A", "B-B"]
    closing = Tag.from_labels(["O", "B-A", "I-A", "L-A", "U-A", "U-B", "B-B", "I-B", "L-B"])
    tags = closing.read(tmp_path / "b.conll").targets
    assert [closing.labels[tag] for tag in tags] == ["O", "B-A", "L-A", "U-B"]


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
    with pytest.raises(UsageError, match=r"1.*4.*'5'"):
        read_conll(file, tag_column="5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tO\nb\tO\tO\n", r"line 2.*3 columns.*2"),
        ("a\nb\n", r"line 1.*1 columns"),
        ("\n\n", "no words"),
        ("a\tO\nb\tI-A\nc\tB-B\n", r"IOB1.*IOB2.*line 2.*I-A.*line 3.*B-B"),
        ("a\tO\nb\tA\nc\tB-B\n", r"line 2.*'A'.*'B-B'"),
        ("a\tO\nb\tA\nc\tB_B\n", r"line 2.*'A'.*'B_B'"),
        ("a\tO\nb\tE-A\nc\tL-B\n", r"line 2.*'E-A'.*line 3.*'L-B'"),
        ("a\tI-A\nb\tE-A\nc\tI-A\n\nd\tI-A\nd\tE-A\ne\tE-A\n", r"IOE1.*IOE2"),
        ("a\t(A*\nb\t*)\nc\t*\n", "line 1.*'\\(A\\*'"),
        ("\n".join(f"w{n}\t{n}x" for n in range(40)), r"40 different.*40 words"),
        ("a\t0\nb\t1\n", r"numbers.*0, 1.*--label-names"),
        (
            "d1 0 a O\nd1 1 b B-X\nd1 2 c O\n\nd1 0 e O\n",
            "first column",
        ),
        ("T1\tPER 0 4\tAnna\nT2\tLOC 9 13\tRome\n", "brat"),
        ("a\tO\nb\tO\n", "'O'"),
    ],
)
def test_odd_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.conll").write_text(text)
    with pytest.raises(CorpusError, match=message):
        Tag.from_train_file(TrainFile(tmp_path / "a.conll", ColumnsConfig()))


def test_comments_and_names_of_columns_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.conll"
    file.write_text(
        "# id 0\n# text = Anna #1 .\nAnna\tB-PER\n#1\tO\n#\tO\n\n#\n#x = 1\n# y\nRome\tB-LOC\n\n#end document\n"
    )
    words = read_conll(file)
    assert words.words == ["Anna", "#1", "#", "Rome"]
    assert words.counts.tolist() == [3, 1]
    assert words.lines.tolist() == [3, 4, 5, 10]
    assert re.search("6 lines.*#", capsys.readouterr().err)
    assert [sentence for _, sentence in stream_sentences(file)] == [("Anna", "#1", "#"), ("Rome",)]
    file.write_text("# id\nAnna B-PER\n# O\n\n# id\n# O\nRome B-LOC\n")
    assert read_conll(file).words == ["Anna", "#", "#", "Rome"]
    file.write_text("Token Tag\n\nAnna B-PER\nran O\n")
    assert read_conll(file).words == ["Anna", "ran"]
    assert read_conll(file, tag_column="Tag").names == ["B-PER", "O"]
    assert [sentence for _, sentence in stream_sentences(file)] == [("Anna", "ran")]
    file.write_text("Anna\tB-PER\n#fun\n")
    with pytest.raises(CorpusError, match=r"line 2.*1 columns.*2"):
        read_conll(file)
    (tmp_path / "a.csv").write_text('Anna,B-PER\n",",O\n\nRome,B-LOC\n')
    assert read_conll(tmp_path / "a.csv").words == ["Anna", ",", "Rome"]


def test_words_are_numbered_in_conll_u(tmp_path: Path) -> None:
    file = tmp_path / "a.conllu"
    file.write_text(
        "# text = du vin\n1-2\tdu\t_\tX\n1\tde\tADP\tO\n2\tle\tDET\tO\n2.1\tx\t_\tX\n3\tvin\tNOUN\tB-F\n"
        "\n1\tOui\tINTJ\tO\n"
    )
    words = read_conll(file)
    assert words.words == ["de", "le", "vin", "Oui"]
    assert words.names == ["O", "B-F"]
    assert set(read_conll(file, tag_column="3").names) == {"ADP", "DET", "NOUN", "INTJ"}
    assert read_conll(file, word_column="3").words == ["ADP", "DET", "NOUN", "INTJ"]
    assert list(stream_sentences(file)) == [(3, ("de", "le", "vin")), (8, ("Oui",))]
    file.write_text("1\tOui\toui\tINTJ\t_\t_\t0\troot\t_\t_\n")
    with pytest.raises(CorpusError, match=r"CoNLL-U.*--label-column 4"):
        read_conll(file)
    assert read_conll(file, tag_column="4").names == ["INTJ"]


def test_a_type_the_training_file_lacks_is_refused(tmp_path: Path) -> None:
    task, _ = Tag.from_train_file(TrainFile(conll(tmp_path / "a.conll", "B-A I-A O"), ColumnsConfig()))
    with pytest.raises(CorpusError, match=r"line 2.*'B-C'"):
        task.read(conll(tmp_path / "b.conll", "O B-C"))
