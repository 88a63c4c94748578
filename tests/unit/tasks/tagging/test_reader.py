"""Files of tagged words in every form people have them: the same words and tags, or one sentence of what is wrong."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertwright.errors import CorpusError, ModelError, UsageError
from bertwright.inference.questions import InputFile
from bertwright.tasks.base import TrainFile
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.tagging.pretokenize import PreTokenized
from bertwright.tasks.tagging.reader import lacks_tags
from bertwright.tasks.tagging.task import Tag

WORDS = [["Anna", "Stone", "left", "Rome", "."], ["Rome", ",", "again"]]
TAGS = [["B-PER", "I-PER", "O", "B-LOC", "O"], ["B-LOC", "O", "O"]]
NAMES = ("O", "B-PER", "I-PER", "B-LOC")
"""The names of numbers, in an order that is not the model's."""
NUMBERS = [[NAMES.index(tag) for tag in tags] for tags in TAGS]
EVERY_WORD, EVERY_TAG = list(chain(*WORDS)), list(chain(*TAGS))
LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
Writer = Callable[[Path], Path]


def rows(*columns: tuple[str, list[Any]]) -> list[dict[str, Any]]:
    names, every = zip(*columns, strict=True)
    return [dict(zip(names, cells, strict=True)) for cells in zip(*every, strict=True)]


def lines(name: str, some: list[dict[str, Any]]) -> Writer:
    def write(folder: Path) -> Path:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
        return folder / name

    return write


def table(name: str, some: list[dict[str, Any]], *, header: bool = True, separator: str = ",") -> Writer:
    def write(folder: Path) -> Path:
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=separator)
            writer.writerows([list(some[0])] * header + [list(row.values()) for row in some])
        return folder / name

    return write


def parquet(some: Mapping[str, list[Any]]) -> Writer:
    def write(folder: Path) -> Path:
        pq.write_table(pa.table(dict(some)), folder / "a.parquet")
        return folder / "a.parquet"

    return write


def entities(offset: int) -> list[dict[str, Any]]:
    found = [[(0, 10, "PER"), (16, 20, "LOC")], [(0, 4, "LOC")]]
    keys = [("start", "end", "label"), ("start_offset", "end_offset", "entity_type")][offset]
    return [[dict(zip(keys, one, strict=True)) for one in some] for some in found]


TEXTS = ["Anna Stone left Rome.", "Rome, again"]
TRIPLES = [[[0, 10, "PER"], [16, 20, "LOC"]], [[0, 4, "LOC"]]]
JOINED = [" ".join(words) for words in WORDS]
A_WORD_A_ROW = [
    {"Sentence #": f"Sentence: {n}" if not place else "", "Word": word, "POS": "X", "Tag": tag}
    for n, (words, tags) in enumerate(zip(WORDS, TAGS, strict=True), start=1)
    for place, (word, tag) in enumerate(zip(words, tags, strict=True))
]
FORMS: dict[str, Writer] = {
    "tokens and ner_tags": lines("a.jsonl", rows(("id", [0, 1]), ("tokens", WORDS), ("ner_tags", TAGS))),
    "words and labels": lines("a.txt", rows(("words", WORDS), ("labels", TAGS))),
    "several tags": lines("a.jsonl", rows(("tokens", WORDS), ("pos_tags", TAGS[::-1]), ("ner_tags", TAGS))),
    "no words": lines("a.jsonl", [{"tokens": [], "tags": []}, *rows(("tokens", WORDS), ("tags", TAGS))]),
    "spans": lines("a.jsonl", rows(("text", TEXTS), ("entities", entities(0)))),
    "spans of doccano": lines("a.jsonl", rows(("id", [0, 1]), ("text", TEXTS), ("label", TRIPLES))),
    "other keys of spans": lines("a.jsonl", rows(("content", TEXTS), ("spans", entities(1)))),
    "spans under data": lines("a.jsonl", rows(("id", [0, 1]), ("data", TEXTS), ("label", TRIPLES))),
    "words beside spans": lines("a.jsonl", rows(("tokens", WORDS), ("text", TEXTS), ("spans", entities(0)))),
    "Parquet of lists": parquet({"tokens": WORDS, "tags": TAGS}),
    "Parquet of spans": parquet({"text": TEXTS, "entities": entities(0)}),
    "CSV, blanks": table("a.csv", rows(("tokens", JOINED), ("tags", [" ".join(tags) for tags in TAGS]))),
    "CSV, sentence": table("a.csv", rows(("sentence", JOINED), ("word_labels", [",".join(tags) for tags in TAGS]))),
    "CSV, as Python prints lists": table("a.csv", rows(("tokens", WORDS), ("ner_tags", TAGS))),
    "CSV, as numpy prints arrays": table(
        "a.csv", rows(("tokens", [f"[{' '.join(map(repr, w))}]" for w in WORDS]), ("tags", list(map(json.dumps, TAGS))))
    ),
    "TSV without header": table(
        "a.tsv", rows(("1", JOINED), ("2", [" ".join(t) for t in TAGS])), header=False, separator="\t"
    ),
    "CSV, a word a row": table("a.csv", A_WORD_A_ROW),
    "TSV, a word a row": table(
        "a.tsv",
        [{"sentence_id": row["Sentence #"], "token": row["Word"], "label": row["Tag"]} for row in A_WORD_A_ROW],
        separator="\t",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_words_and_tags(form: str, tmp_path: Path) -> None:
    task, splits = Tag.from_train_file(TrainFile(FORMS[form](tmp_path), ColumnsConfig()))
    examples = splits["train"]
    assert task.labels == LABELS
    assert examples.words == EVERY_WORD
    assert examples.counts.tolist() == [5, 3]
    assert [task.labels[tag] for tag in examples.targets] == EVERY_TAG


@pytest.mark.parametrize("form", FORMS)
def test_a_tagger_is_asked_the_same_words(form: str, tmp_path: Path) -> None:
    questions = [texts for _, texts in InputFile(FORMS[form](tmp_path), head_type="token", pairs=False)]
    if "spans" in form:
        assert questions == [(text,) for text in TEXTS]
    else:
        questions = questions[1:] if form == "no words" else questions
        assert questions == list(map(tuple, WORDS))
        assert all(isinstance(texts, PreTokenized) for texts in questions)


def test_a_tagger_is_asked_words_without_tags(tmp_path: Path) -> None:
    for write in (
        lines("a.jsonl", [{"tokens": []}, *rows(("tokens", WORDS))]),
        parquet({"tokens": [[], *WORDS], "tags": [[], *NUMBERS]}),
        lines("b.jsonl", rows(("tokens", [[], *WORDS]), ("ner_tags", [[], *NUMBERS]))),
    ):
        questions = [texts for _, texts in InputFile(write(tmp_path), head_type="token", pairs=False)]
        assert questions == [("",), *map(tuple, WORDS)]
    texts = lines("c.jsonl", rows(("text", TEXTS), ("label", ["a", "b"])))(tmp_path)
    assert [texts for _, texts in InputFile(texts, head_type="token", pairs=False)] == [(text,) for text in TEXTS]


def test_a_tagger_is_asked_texts_of_lines_and_words_of_conll(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    for text, expected in [
        ("Yes, it is.\n\nNo, it is not.\n", [("Yes, it is.",), ("",), ("No, it is not.",)]),
        ("Anna\tB-PER\nran\tO\n\nRome\tB-LOC\n", [("Anna", "ran"), ("Rome",)]),
        ("# id 0\n1\tAnna\tB-PER\n2\tran\tO\n\n# id 1\n1\tRome\tB-LOC\n", [("Anna", "ran"), ("Rome",)]),
        ('{"tokens": ["Anna", "ran"]}\n', [("Anna", "ran")]),
    ]:
        file.write_text(text)
        assert [texts for _, texts in InputFile(file, head_type="token", pairs=False)] == expected


def with_class_names(folder: Path) -> Path:
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(datasets.ClassLabel(names=NAMES))}
    )
    rows = datasets.Dataset.from_dict({"tokens": WORDS, "ner_tags": NUMBERS}, features=features)
    rows.to_parquet(folder / "named.parquet")
    return folder / "named.parquet"


@pytest.mark.parametrize(
    ("write", "names"),
    [
        (lines("a.jsonl", rows(("tokens", WORDS), ("ner_tags", NUMBERS))), NAMES),
        (parquet({"tokens": WORDS, "ner_tags": NUMBERS}), NAMES),
        (table("a.csv", rows(("tokens", JOINED), ("tags", [" ".join(map(str, tags)) for tags in NUMBERS]))), NAMES),
        (with_class_names, None),
    ],
    ids=["JSON lines", "Parquet", "CSV", "Parquet of datasets"],
)
def test_numbers_are_tags_by_their_names(write: Writer, names: tuple[str, ...] | None, tmp_path: Path) -> None:
    file = write(tmp_path)
    task, splits = Tag.from_train_file(TrainFile(file, ColumnsConfig(label_names=names)))
    examples = splits["train"]
    assert [task.labels[tag] for tag in examples.targets] == EVERY_TAG
    assert task.extra_config == {"label_names": list(NAMES)}
    recalled = Tag.from_labels(task.labels, task.extra_config)
    assert recalled.read(file).targets.tolist() == examples.targets.tolist()
    with pytest.raises(ModelError, match="label_names"):
        Tag.from_labels(task.labels, {"label_names": 3})


def test_numbers_that_a_model_has_as_tags_stay(tmp_path: Path) -> None:
    file = lines("a.jsonl", [{"tokens": ["a", "b"], "tags": [1, 0]}])(tmp_path)
    assert Tag.from_labels(["0", "1"]).read(file).targets.tolist() == [1, 0]
    with pytest.raises(CorpusError, match="--label-names"):
        Tag.from_labels(["O", "B-X"]).read(file)


def test_names_of_a_file_count_before_those_of_the_model(tmp_path: Path) -> None:
    task, _ = Tag.from_train_file(TrainFile(with_class_names(tmp_path), ColumnsConfig()))
    other = Tag.from_labels(task.labels, {"label_names": list(NAMES[::-1])})
    assert [task.labels[tag] for tag in other.read(tmp_path / "named.parquet").targets] == EVERY_TAG


def test_entities_that_do_not_fit_words_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = [
        {"text": "Rome-based Anna Stone", "entities": [[0, 4, "LOC"], [10, 21, "PER"], [11, 15, "NAME"]]},
        {"text": "", "entities": []},
    ]
    task, splits = Tag.from_train_file(TrainFile(lines("a.jsonl", some)(tmp_path), ColumnsConfig()))
    examples = splits["train"]
    assert examples.words == ["Rome-based", "Anna", "Stone"]
    assert [task.labels[tag] for tag in examples.targets] == ["B-LOC", "B-PER", "I-PER"]
    output = capsys.readouterr().err
    assert "within a word" in output
    assert "longer ones" in output
    assert re.search("1 rows.*no words", output)


@pytest.mark.parametrize(
    ("some", "message"),
    [
        ([{"tokens": ["a", "b"], "tags": ["O"]}], r"row 1.*2 words in tokens.*1 tags in tags"),
        ([{"tokens": ["a"], "tags": [0]}, {"tokens": ["b"], "tags": [4]}], "--label-names"),
        ([{"tokens": ["a"], "tags": [None]}], r"row 1.*tags"),
        ([{"tokens": ["a"], "tags": ["O"]}, {"tokens": "a", "tags": ["O"]}], "words in tokens"),
        ([{"tokens": ["a", None], "tags": ["O", "O"]}], r"columns.*tokens, tags"),
        ([{"text": "a b", "label": "good"}], r"row 1.*2 words in text.*1 tags in label"),
        ([{"text": "a b"}], r"columns.*words"),
        ([{"text": "ab", "entities": [[0, 3, "X"]]}], r"row 1.*0.*3"),
        ([{"text": "a b", "entities": [[1, 2, "X"]]}], r"row 1.*1.*2"),
        ([{"text": "ab", "entities": [{"start": 0, "end": "1", "label": "X"}]}], r"start, end.*label"),
        (
            [{"text": "\u00e9\u00e9 Rome", "entities": [{"start": 5, "end": 7, "label": "X", "text": "Rome"}]}],
            r"row 1.*'Rome'.*'me'.*5.*7",
        ),
        ([{"tokens": [101, 102], "tags": ["O", "O"]}], r"columns.*words"),
        ([{"word": "a", "tag": "O"}, {"word": "b", "tag": "B-X"}], "sentence_id"),
    ],
)
def test_files_that_do_not_fit_are_refused(some: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=message):
        Tag.from_train_file(TrainFile(lines("a.jsonl", some)(tmp_path), ColumnsConfig()))


def test_numbers_among_words_are_words(tmp_path: Path) -> None:
    file = lines("a.jsonl", [{"tokens": ["In", 2019, 1.5], "tags": ["O", "B-T", "O"]}])(tmp_path)
    assert Tag.from_train_file(TrainFile(file, ColumnsConfig()))[1]["train"].words == ["In", "2019", "1.5"]


def test_arrays_of_arrays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('[["Anna left", {"entities": [[0, 4, "PER"]]}], ["Rome", {"entities": []}]]\n')
    with pytest.raises(CorpusError, match="JSON object"):
        Tag.from_train_file(TrainFile(tmp_path / "a.txt", ColumnsConfig()))


def test_columns_are_named(tmp_path: Path) -> None:
    file = lines("a.jsonl", rows(("a", WORDS), ("b", TAGS), ("c", [["X"] * 5, ["Y"] * 3])))(tmp_path)
    with pytest.raises(CorpusError, match=r"--text-column.*--label-column"):
        Tag.from_train_file(TrainFile(file, ColumnsConfig()))
    assert Tag.from_train_file(TrainFile(file, ColumnsConfig(text="a", label="c")))[0].labels == ("X", "Y")
    assert Tag.from_train_file(TrainFile(file, ColumnsConfig(text="a", label="b")))[0].labels == LABELS
    with pytest.raises(UsageError, match=r"'d'.*a, b, c"):
        Tag.from_train_file(TrainFile(file, ColumnsConfig(text="a", label="d")))
    with pytest.raises(UsageError, match="--label-names"):
        Tag.from_train_file(TrainFile(file, ColumnsConfig(text="a", label="b", label_names=("O", "X"))))
    numbers = lines("n.jsonl", rows(("tokens", WORDS), ("tags", NUMBERS)))(tmp_path)
    with pytest.raises(CorpusError, match=r"row 1.*3.*0 to 2.*O, B-PER"):
        Tag.from_train_file(TrainFile(numbers, ColumnsConfig(label_names=NAMES[:3])))


@pytest.mark.parametrize("label", [None, "2"])
@pytest.mark.parametrize("name", ["a.conll", "a.txt", "a.tsv", "a.csv"])
def test_a_file_of_words_alone_has_no_tags(tmp_path: Path, name: str, label: str | None) -> None:
    path = tmp_path / name
    path.write_text("\n\n".join("\n".join(words) for words in WORDS) + "\n")
    given = ColumnsConfig(label=label)
    assert lacks_tags(path, given)
    assert [list(words) for _, words in InputFile(path, head_type="token", columns=given)] == WORDS
    path.write_text("Rome\n\nAnna\n")
    assert lacks_tags(path, given) == (name == "a.conll")
