"""Everything that reads files for a task reads them in any encoding, and no half of a character gets past a reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertwright.cli.main import main
from bertwright.corpus.eval_texts import load_eval_texts
from bertwright.errors import CorpusError
from bertwright.inference.minimal_pairs import read_minimal_pairs
from bertwright.inference.questions import InputFile
from bertwright.tasks.base import TrainFile
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.reader import read_sentences
from bertwright.tasks.multiple_choice.reader import read_choices
from bertwright.tasks.question_answering.reader import read_squad
from bertwright.tasks.tagging.conll import read_conll
from bertwright.tasks.translation.reader import SidesConfig, read_parallel
from bertwright.verbs.calls.embed_input import reader_of

SHORT, LONG = "好吃", "这家店的面条很好吃。"
SQUAD = {"context": LONG, "qas": [{"id": "名", "question": "什么？", "answers": [{"text": "面条", "answer_start": 4}]}]}
READERS: dict[str, tuple[str, Callable[[Path, str | None], Any]]] = {
    "a.csv": (f"text,label\n{LONG},1\n{SHORT},0\n", lambda path, encoding: classes(path, encoding)),
    "a.tsv": (f"sentence1\tsentence2\tscore\n{LONG}\t{SHORT}\t1\n{LONG}\t{LONG}\t5\n",
        lambda path, encoding: read_sentences(path, ColumnsConfig(encoding=encoding), kind=None).texts),
    "b.tsv": (f"source\ttarget\n{LONG}\tsoup\n", lambda path, encoding: read_parallel(
        path, SidesConfig(encoding=encoding)).first),
    "a.conll": (f"{SHORT} O\n面条 B-X\n", lambda path, encoding: read_conll(path, encoding=encoding).words),
    "squad.json": (json.dumps({"data": [{"paragraphs": [SQUAD]}]}, ensure_ascii=False), lambda path, encoding: (
        read_squad(path, encoding).contexts, read_squad(path, encoding).ids)),
    "choices.jsonl": (json.dumps({"context": LONG, "choices": [SHORT, "面"], "label": 0}, ensure_ascii=False),
        lambda path, encoding: read_choices(path, ColumnsConfig(encoding=encoding)).choices),
    "pairs.jsonl": (json.dumps({"good": LONG, "bad": SHORT}, ensure_ascii=False), read_minimal_pairs),
    "lines.txt": (f"{LONG}\n{SHORT}\n", lambda path, encoding: list(
        InputFile(path, head_type="row", columns=ColumnsConfig(encoding=encoding)))),
    "table.csv": (f"text\n{LONG}\n{SHORT}\n", lambda path, encoding: list(
        InputFile(path, head_type="row", columns=ColumnsConfig(encoding=encoding)))),
    "words.bio": (f"{SHORT}\n{LONG}\n", lambda path, encoding: list(
        InputFile(path, head_type="token", columns=ColumnsConfig(encoding=encoding)))),
    "test.txt": (f"{LONG}\n{SHORT}\n", lambda path, encoding: load_eval_texts(path, encoding).to_pylist()),
}  # fmt: skip


def classes(path: Path, encoding: str | None) -> list[str]:
    task, splits = Classify.from_train_file(TrainFile(path, ColumnsConfig(encoding=encoding)))
    examples = splits["train"]
    return task.read(path).first + examples.first


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(("written", "given"), [("gb18030", None), ("gb18030", "gbk"), ("utf-16", None)])
def test_every_reader_reads_every_encoding(tmp_path: Path, name: str, written: str, given: str | None) -> None:
    text, read = READERS[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    expected = read(tmp_path / name, None)
    (tmp_path / name).write_text(text, encoding=written)
    assert read(tmp_path / name, given) == expected


@pytest.mark.parametrize("name", [name for name in READERS if name.endswith((".json", ".jsonl"))])
def test_halves_of_characters_become_replacement_characters(tmp_path: Path, name: str) -> None:
    text, read = READERS[name]
    for half in ("\\ud83d", "\\udc00"):
        (tmp_path / name).write_text(text.replace("店", half), encoding="utf-8")
        found = read(tmp_path / name, None)
        json.dumps(found, ensure_ascii=False).encode()
        if name != "choices.jsonl":
            assert "\ufffd" in json.dumps(found, ensure_ascii=False)


def test_texts_of_a_call_are_whole_too() -> None:
    assert list(reader_of(["a \ud83d b", "\udce9"], None)()) == [["a \ufffd b", "\ufffd"]]


@pytest.mark.parametrize("verb", ["prepare", "doctor", "finetune", "evaluate", "predict", "embed", "export"])
def test_every_verb_that_reads_text_takes_an_encoding(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert "--encoding" in capsys.readouterr().out


@pytest.mark.parametrize("written", [("True", "1.0", "good "), ("true", "1", "good")])
def test_labels_of_a_model_are_found_however_they_are_written(tmp_path: Path, written: tuple[str, ...]) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"x,{label}\n" for label in written))
    task = Classify.from_labels(["True", "1.0", "good"]).with_columns(tmp_path / "a.csv", ColumnsConfig())
    assert task.read(tmp_path / "a.csv").targets.tolist() == [0, 1, 2]


@pytest.mark.parametrize("written", [
    lambda rows: "".join(f"{json.dumps(row)}\n" for row in rows), lambda rows: json.dumps(rows, indent=1),
    lambda rows: json.dumps({"version": 1, "data": rows}),
])  # fmt: skip
def test_minimal_pairs_are_read_in_every_form_of_json(
    tmp_path: Path, written: Callable[[list[dict[str, str]]], str]
) -> None:
    pairs = [{"good": "He sees.", "bad": "He see.", "field": "syntax"}, {"good": "a", "bad": "b"}]
    path = tmp_path / "pairs.json"
    path.write_text(written(pairs))
    assert read_minimal_pairs(path) == pairs
    path.write_text(written([*pairs, {"good": "a"}]))
    with pytest.raises(CorpusError, match=r"pair 3.*'bad'"):
        read_minimal_pairs(path)
