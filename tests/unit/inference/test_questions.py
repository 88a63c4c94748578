"""What files ask a model: a question a line, row or sentence, in order, as the model has learned to be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertwright.errors import CorpusError, UsageError
from bertwright.inference.questions import InputFile, Question, task_questions
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.tagging.pretokenize import PreTokenized
from bertwright.tasks.tagging.task import Tag

PAIRS = [("It rains.", "It pours."), ("Yes.", "No."), ("", "So.")]
TEXTS = [("It rains.",), ("Yes.",), ("",)]


def asked(
    file: Path, head_type: str = "row", *, pairs: bool | None = None, text: str | None = None, pair: str | None = None
) -> list[Question]:
    columns = ColumnsConfig(text=text, pair=pair)
    file_of_model = InputFile(file, head_type=head_type, pairs=pairs, columns=columns)
    return list(task_questions((), pair=False, located=file_of_model, head_type=head_type, pairs=pairs))


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def test_every_line_is_asked(tmp_path: Path) -> None:
    file = written(tmp_path / "a.txt", "\none\n\nthree\n\n")
    for part, pairs in (("row", False), ("row", None), ("token", False)):
        assert asked(file, part, pairs=pairs) == [("",), ("one",), ("",), ("three",), ("",)]
    file = written(tmp_path / "b.txt", "\na\tb\n\n")
    for pairs in (True, None):
        assert asked(file, pairs=pairs) == [("", ""), ("a", "b"), ("", "")]
    assert asked(written(tmp_path / "c.txt", "\n\n"), pairs=None) == [("",), ("",)]


@pytest.mark.parametrize(
    ("part", "pairs", "text", "message"),
    [
        ("row", True, "a\tb\nc\n", r"line 2.*single.*pairs"),
        ("row", False, "a\nb\tc\n", r"line 2.*pair.*single"),
        ("row", None, "\na\nb\tc\n", r"line 3.*pair.*line 2.*single"),
        ("row", None, "a\tb\tc\n", r"line 1.*3 texts"),
        ("token", False, "a\tb\n", "tabs"),
        ("span", True, "a\tb\nc\n", r"line 2.*`question TAB context`"),
        ("vector", True, "a\n", r"line 1.*single.*`bertwright embed`"),
        ("choice", None, "a\tb\tc\nd\te\n", r"line 2.*choice"),
        ("choice", None, "a\tb\tc\n\n", r"line 2.*no text"),
    ],
)
def test_the_first_line_that_differs_is_named(
    part: str, pairs: bool | None, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        asked(written(tmp_path / "a.txt", text), part, pairs=pairs)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "a.parquet", "utf16.tsv"])
def test_tables_of_single_texts_and_of_pairs(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    firsts, seconds = (list(column) for column in zip(*PAIRS, strict=True))
    for titles, columns, pairs, wanted in (
        (["id", "sentence", "label"], [list("123"), firsts, list("abb")], False, TEXTS),
        (["id", "sentence1", "sentence2", "score"], [list("123"), firsts, seconds, list("012")], True, PAIRS),
    ):
        table = dict(zip(titles, columns, strict=True))
        if name.endswith(".parquet"):
            pa.parquet.write_table(pa.table(table), file)
        elif name.endswith(".jsonl"):
            written(file, "".join(json.dumps(row) + "\n" for row in pa.table(table).to_pylist()))
        else:
            mark = "," if name.endswith(".csv") else "\t"
            rows = [titles, *zip(*columns, strict=True)]
            text = "".join(mark.join(row) + "\n" for row in rows)
            written(file, text, "utf-16" if "utf16" in name else "utf-8")
        assert asked(file, pairs=pairs) == wanted
        assert asked(file, pairs=pairs, text=titles[1], pair=titles[2] if pairs else None) == wanted
        assert asked(file, pairs=None) == wanted


@pytest.mark.parametrize(
    ("text", "pairs", "given", "wanted"),
    [
        ("It rains.\tIt pours.\nA.\tB.\n", True, {}, [("It rains.", "It pours."), ("A.", "B.")]),
        ("It rains.\tIt pours.\nA.\tB.\n", None, {}, [("It rains.", "It pours."), ("A.", "B.")]),
        ("It rains.\tIt pours.\t1\nA.\tB.\t0\n", True, {}, [("It rains.", "It pours."), ("A.", "B.")]),
        ("It rains.\t1\nA dog ran.\t0\n", False, {}, [("It rains.",), ("A dog ran.",)]),
        ("It rains.\nA dog ran.\n", False, {}, [("It rains.",), ("A dog ran.",)]),
        ("a\tb\tc\nx.\ty.\tz.\n", True, {"text": "c", "pair": "a"}, None),
        ("It rains.\tIt pours.\tSo.\n", True, {"text": "3", "pair": "1"}, [("So.", "It rains.")]),
    ],
)
def test_tables_without_names(
    text: str, pairs: bool | None, given: dict[str, str], wanted: list[Question] | None, tmp_path: Path
) -> None:
    file = written(tmp_path / "a.tsv", text)
    assert asked(file, pairs=pairs, **given) == (wanted or [("z.", "x.")])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "pairs", "given", "message"),
    [
        ("sentence1\tsentence2\na\tb\n", False, {}, r"single.*pairs.*--text-column"),
        ("sentence1\tsentence2\na\tb\n", False, {"pair": "sentence2"}, "--pair-column"),
        ("sentence1\tsentence2\na\tb\n", True, {"text": "x"}, r"'x'.*sentence1"),
        ("sentence1\tsentence2\na\tb\n", True, {"text": "sentence1", "pair": "sentence1"}, "must be different"),
        ("sentence\tlabel\na\tb\n", True, {}, r"--text-column.*--pair-column"),
        ("a\tb\tlabel\nx\n", True, {}, r"1 cells.*3"),
    ],
)
def test_tables_that_do_not_fit(text: str, pairs: bool, given: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises((CorpusError, UsageError), match=message):
        asked(written(tmp_path / "a.tsv", text), pairs=pairs, **given)  # type: ignore[arg-type]


def test_names_of_pairs_differ_by_model(tmp_path: Path) -> None:
    row = '{"question": "Who?", "context": "Anna.", "anchor": "a", "positive": "b", "answers": {"text": ["Anna"]}}\n'
    file = written(tmp_path / "a.jsonl", row)
    assert asked(file, "span", pairs=True) == [("Who?", "Anna.")]
    assert asked(file, "vector", pairs=True) == [("a", "b")]


def test_sentences_of_conll_are_asked_word_by_word(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O\n\nU.N. NN B-ORG\nsaid V O\n\n\nOslo NN B-LOC\n"
    file = written(tmp_path / "a.conll", text)
    found = asked(file, "token", pairs=False)
    assert found == [("U.N.", "said"), ("Oslo",)]
    assert asked(file, "token", pairs=False, text="2") == [("NN", "V"), ("NN",)]
    examples = Tag(("O", "B-ORG")).from_questions([PreTokenized(("U.N. x", "said")), ("It's U.N. !",)])
    assert examples.words == ["U.N. x", "said", "It", "'s", "U.N.", "!"]
    assert examples.texts == ["U.N. x said", "It's U.N. !"]
    assert examples.spans is not None
    assert examples.spans.tolist() == [[0, 6], [7, 11], [0, 2], [2, 4], [5, 9], [10, 11]]
    assert asked(written(tmp_path / "words.iob", "Anna\nran\n\nSo"), "token") == [("Anna", "ran"), ("So",)]
    with pytest.raises(CorpusError, match=r"line 2.*1 columns.*2"):
        asked(written(tmp_path / "ragged.bio", "Anna N\nran\n"), "token")
    with pytest.raises(UsageError, match="CoNLL"):
        asked(file, "row")


def test_files_that_ask_nothing(tmp_path: Path) -> None:
    for name, text in (("a.txt", ""), ("a.tsv", "\n"), ("a.csv", "text,label\n"), ("a.conll", "\n"), ("a.jsonl", "")):
        with pytest.raises(CorpusError, match="empty"):
            asked(written(tmp_path / name, text), "token")
    squad = '{"version": "1.1", "data": [{"paragraphs": []}]}'
    with pytest.raises(CorpusError, match=r"JSON.*SQuAD"):
        asked(written(tmp_path / "a.json", squad))
    with pytest.raises(CorpusError, match=r"NUL.*byte 6.*2.*UTF-8"):
        asked(written(tmp_path / "b.csv", "text,\n\0,\n"))


def test_how_much_has_been_read(tmp_path: Path) -> None:
    for file in (written(tmp_path / "a.txt", "a\nb\n"), written(tmp_path / "a.csv", "text\na\nb\n")):
        read = InputFile(file, head_type="row")
        assert read.progress is None
        assert len(list(read)) == 2
        assert read.progress == pytest.approx(1.0)
