"""Corpora and labelled files: a small whole one of each format, and how it is read to its end."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from kind import TEXTS, Kind, a_file, only_file

from bertwright.corpus.eval_texts import load_eval_texts
from bertwright.corpus.readers import blocks, delimited
from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.inputs import find_inputs
from bertwright.corpus.readers.layouts import detect_layout
from bertwright.corpus.readers.table import read_table
from bertwright.errors import CorpusError, InputError
from bertwright.files import write_json
from bertwright.inference.minimal_pairs import read_minimal_pairs
from bertwright.inference.questions import InputFile
from bertwright.tasks.base import TrainFile
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.reader import read_sentences
from bertwright.tasks.examples import split_dev
from bertwright.tasks.multiple_choice.reader import read_choices
from bertwright.tasks.question_answering.reader import read_squad
from bertwright.tasks.stream import stream_texts
from bertwright.tasks.tagging.task import Tag
from bertwright.tasks.translation.reader import SidesConfig, read_parallel

blocks.BLOCK_BYTES = delimited.BLOCK_BYTES = 1 << 16
"""pyarrow does not give back what a read that failed was to fill, 8 MB otherwise: 100 readings would use up ROOM."""


def _read_corpus(folder: Path) -> None:
    for skip_broken in (False, True):
        options = ReadOptions(skip_broken=skip_broken)
        paths = find_inputs([str(path) for path in folder.iterdir() if not path.name.startswith(".")]).files
        for batch in read_documents(paths, options, layout=detect_layout(paths, options)):
            batch.texts.validate(full=True)


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": TEXTS, "n": [1, 2, 3]}), sink, row_group_size=2)
    return bytes(sink.getvalue())


def _arrow(file_format: bool) -> Callable[[], bytes]:
    def data() -> bytes:
        table = pa.table({"text": TEXTS, "n": [1, 2, 3]})
        sink = pa.BufferOutputStream()
        with (pa.ipc.new_file if file_format else pa.ipc.new_stream)(sink, table.schema) as out:
            out.write_table(table)
        return bytes(sink.getvalue())

    return data


def _json_lines() -> bytes:
    return "".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(TEXTS)).encode()


def _wikipedia() -> bytes:
    site = '<siteinfo><namespaces><namespace key="6">File</namespace></namespaces></siteinfo>'
    markup = "'''Ulm''' is [[a|b]]. {{c|d}} [[File:x|y]]&lt;ref&gt;z&lt;/ref&gt;"
    markup += "\n{| \n|a\n|}\n[http://x y] -{zh-hans:a;zh-hant:b}-"
    page = f"<page><title>T</title><ns>0</ns><revision><text>{markup}</text></revision></page>"
    return f'<mediawiki xmlns="http://m.org/">{site}{page * 2}</mediawiki>'.encode()


def _state(folder: Path) -> Path:
    (folder / "set").mkdir()
    (folder / "set" / "a.arrow").write_bytes(_arrow(False)())
    write_json(folder / "set" / "dataset_info.json", {})
    write_json(folder / "set" / "state.json", {"_data_files": [{"filename": "a.arrow"}], "_fingerprint": "x"})
    return folder / "set" / "state.json"


def _splits(folder: Path) -> Path:
    _state(folder)
    (folder / "set").rename(folder / "train")
    write_json(folder / "dataset_dict.json", {"splits": ["train"]})
    return folder / "dataset_dict.json"


def _read_splits(folder: Path) -> None:
    find_inputs([str(folder)])


def _tsv() -> bytes:
    return ("text\tlabel\n" + "".join(f"{text}\t{n % 2}\n" for n, text in enumerate(TEXTS * 3))).encode()


def _csv() -> bytes:
    return ("text,label\n" + "".join(f'"{text}",{n % 2}\n' for n, text in enumerate(TEXTS * 3))).encode()


def _json_array() -> bytes:
    return json.dumps([{"text": text, "label": n, "words": text.split()} for n, text in enumerate(TEXTS)]).encode()


def _json_data() -> bytes:
    rows = [{"text": text, "label": n % 2 == 0} for n, text in enumerate(TEXTS)]
    return json.dumps({"version": "1.0", "about": {"data": []}, "data": rows, "end": [1]}, indent=1).encode()


def _lists_of_words() -> bytes:
    rows = [{"text": text.split(), "label": label} for text, label in zip(TEXTS, (0, "0", 0.0), strict=True)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _written_lists() -> bytes:
    return ("text,label\n" + "".join(f'"{text.split()}",{n}\n' for n, text in enumerate(TEXTS[:2] * 2))).encode()


def _chinese_csv() -> bytes:
    return ",text,label\n0,好电影，值得一看,1\n1,坏电影，浪费时间,0\n2,演员很好,1\n".encode("gb18030")


def _wide(encoding: str) -> Callable[[], bytes]:
    return lambda: _tsv().decode().encode(encoding)


def _members() -> bytes:
    return gzip.compress(_tsv()[:40]) + gzip.compress(_tsv()[40:]) + bytes(40)


def _class_labels(arrow: bool) -> Callable[[], bytes]:
    def data() -> bytes:
        names = {"names": ["a", "b"], "_type": "ClassLabel"}
        features = {"label": names, "tags": {"feature": names, "_type": "Sequence"}}
        rows = {"text": TEXTS, "label": [0, 1, -1], "tags": [[0, 1], [], [1]], "__index_level_0__": [5, 6, 7]}
        table = pa.table(rows).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        sink = pa.BufferOutputStream()
        if not arrow:
            pq.write_table(table, sink)
            return bytes(sink.getvalue())
        with pa.ipc.new_stream(sink, table.schema) as out:
            out.write_table(table)
        return bytes(sink.getvalue())

    return data


def _conll() -> bytes:
    return b"# id 0\n-DOCSTART- O\n\nThe O\ncat B-PER\nsat I-PER\n\n# id 1\nIt O\nran O\n\n"


WORDS, TAGS = [text.split() for text in TEXTS], [["O", "B-X", "I-X", *["O"] * (len(t.split()) - 3)] for t in TEXTS]


def _tag_lines() -> bytes:
    rows = [{"tokens": words, "ner_tags": tags} for words, tags in zip(WORDS, TAGS, strict=True)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _number_lines() -> bytes:
    rows = [{"words": words, "labels": [n % 3 for n in range(len(words))]} for words in WORDS]
    return json.dumps(rows).encode()


def _entity_lines() -> bytes:
    rows = [{"text": text, "entities": [{"start": 0, "end": 7, "label": "X"}, [8, 11, "Y"]]} for text in TEXTS]
    return json.dumps(rows).encode()


def _tag_parquet() -> bytes:
    names = {"feature": {"names": ["O", "B-X", "I-X"], "_type": "ClassLabel"}, "_type": "List"}
    features = {"info": {"features": {"tokens": {"feature": {"dtype": "string"}}, "ner_tags": names}}}
    numbers = [[n % 3 for n in range(len(words))] for words in WORDS]
    table = pa.table({"tokens": WORDS, "ner_tags": numbers}).replace_schema_metadata(
        {"huggingface": json.dumps(features)}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=2)
    return bytes(sink.getvalue())


def _tag_csv() -> bytes:
    cells = [f'"{words!r}",{" ".join(tags)}' for words, tags in zip(WORDS, TAGS, strict=True)]
    return "\n".join(["tokens,ner_tags", *cells, ""]).encode()


def _word_csv() -> bytes:
    rows = ["Sentence #,Word,Tag"]
    for n, (words, tags) in enumerate(zip(WORDS, TAGS, strict=True)):
        rows += [f'{"" if place else n},"{w}",{t}' for place, (w, t) in enumerate(zip(words, tags, strict=True))]
    return "\n".join([*rows, ""]).encode()


def _read_tags(file: Path) -> None:
    """Read the tags of a file as training does, as those of another file, and as what a tagger is asked."""
    columns = ColumnsConfig()
    with suppress(InputError):
        for where, texts in InputFile(file, head_type="token", pairs=False):
            assert isinstance(where, str)
            assert all(isinstance(text, str) for text in texts)
    task = Tag.from_labels(["O", "B-X", "I-X", "B-Y", "I-Y"], {"label_names": ["O", "B-X", "I-X"]})
    for read in (lambda: Tag.from_train_file(TrainFile(file, columns))[1]["train"], lambda: task.read(file)):
        with suppress(InputError):
            examples = read()
            assert int(examples.counts.sum()) == len(examples.words) == len(examples.targets)
            assert all(isinstance(word, str) for word in examples.words)
    Tag.from_train_file(TrainFile(file, columns))


def _squad() -> bytes:
    answers = [{"text": "cat", "answer_start": 4}]
    questions = [{"id": "1", "question": "Who sat?", "answers": answers, "is_impossible": False}]
    return json.dumps(
        {"version": "1", "data": [{"title": "t", "paragraphs": [{"context": TEXTS[0], "qas": questions}]}]}
    ).encode()


def _squad_rows() -> list[dict[str, Any]]:
    answers = {"text": ["cat"], "answer_start": [4]}
    return [{"id": str(n), "context": TEXTS[0], "question": "Who sat?", "answers": answers} for n in range(3)]


def _squad_lines() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in _squad_rows()).encode()


def _squad_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(_squad_rows()), sink)
    return bytes(sink.getvalue())


def _read_labelled(file: Path) -> None:
    table = read_table(file, names={"text", "label"})
    for name in table.columns:
        table.labels(name)
        with suppress(CorpusError):
            table.texts(name)


def _multi_label() -> bytes:
    return "".join(
        json.dumps({"text": text, "labels": f'["a", "{n}"]'}) + "\n" for n, text in enumerate(TEXTS)
    ).encode()


def _flag_columns() -> bytes:
    return (
        "id,text,a,b\n" + "".join(f'{n},"{text}",{n % 2},{n % 3 % 2}\n' for n, text in enumerate(TEXTS * 4))
    ).encode()


def _separated() -> bytes:
    return ("text\tlabels\n" + "".join(f"{text} {n}\ta;{'bcd'[n % 3]}\n" for n, text in enumerate(TEXTS * 4))).encode()


def _read_multi_label(file: Path) -> None:
    """Read labels as training does, a share of the rows held out, and as those of a file for a trained model."""
    task, splits = MultiLabel.from_train_file(TrainFile(file, ColumnsConfig()))
    examples = splits["train"]
    with suppress(InputError):
        split = split_dev(examples, 0.3, labels=task.labels)
        assert len(split["train"]) + len(split["dev"]) == len(examples)
    task.unlabelled(file)
    again = MultiLabel.from_labels(task.labels).with_columns(file, ColumnsConfig()).read(file)
    assert (again.targets == examples.targets).all()


def _choices() -> bytes:
    rows = [{"context": text, "choices": TEXTS[:2], "label": n % 2} for n, text in enumerate(TEXTS)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _pairs() -> bytes:
    rows = [{"good": text, "bad": text[::-1], "paradigm": "p", "field": "f"} for text in TEXTS]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _streamed(file: Path) -> None:
    for texts in stream_texts(file):
        assert all(isinstance(text, str) for text in texts)


def _read_lines(file: Path) -> None:
    for _, texts in InputFile(file, head_type="row"):
        assert all(isinstance(text, str) for text in texts)


def _read_numbers(file: Path) -> None:
    Tag.from_train_file(TrainFile(file, ColumnsConfig(label_names=("O", "B-X", "I-X"))))


CORPORA: dict[str, Kind] = {
    "corpus .txt": Kind(a_file("a.txt", lambda: "\n\n".join(TEXTS).encode()), _read_corpus),
    "corpus .jsonl": Kind(a_file("a.jsonl", _json_lines), _read_corpus),
    "corpus .csv": Kind(a_file("a.csv", _csv), _read_corpus),
    "corpus .tsv": Kind(a_file("a.tsv", _tsv), _read_corpus),
    "corpus .parquet": Kind(a_file("a.parquet", _parquet), _read_corpus),
    "corpus .arrow, stream": Kind(a_file("a.arrow", _arrow(False)), _read_corpus),
    "corpus .arrow, file": Kind(a_file("a.arrow", _arrow(True)), _read_corpus),
    "corpus .jsonl.gz": Kind(a_file("a.jsonl.gz", lambda: gzip.compress(_json_lines())), _read_corpus),
    "corpus .jsonl.zst": Kind(a_file("a.jsonl.zst", lambda: zstandard.compress(_json_lines())), _read_corpus),
    "corpus .txt.bz2": Kind(a_file("a.txt.bz2", lambda: bz2.compress("\n".join(TEXTS).encode())), _read_corpus),
    "corpus .arrow.zst": Kind(a_file("a.arrow.zst", lambda: zstandard.compress(_arrow(False)())), _read_corpus),
    "Wikipedia dump": Kind(a_file("a.xml", _wikipedia), _read_corpus),
    "corpus .json, array": Kind(a_file("a.json", _json_array), _read_corpus, is_json=True),
    "corpus .json, data": Kind(a_file("a.json", _json_data), _read_corpus, is_json=True),
    "corpus .jsonl, lists of words": Kind(a_file("a.jsonl", _lists_of_words), _read_corpus),
    "corpus .csv in gb18030": Kind(a_file("a.csv", _chinese_csv), _read_corpus),
    "corpus .tsv in utf-16": Kind(a_file("a.tsv", _wide("utf-16")), _read_corpus),
    "corpus .tsv without a header": Kind(a_file("a.tsv", lambda: _tsv().split(b"\n", 1)[1]), _read_corpus),
    "corpus .tsv.gz, members": Kind(a_file("a.tsv.gz", _members), _read_corpus),
    "corpus .txt in cp1252": Kind(
        a_file("a.txt", lambda: "Zwölf Größen.\n\nSchön für Änne.".encode("cp1252")), _read_corpus
    ),
    "state.json of a dataset": Kind(_state, _read_corpus, is_json=True),
    "dataset_dict.json": Kind(_splits, _read_splits, is_json=True),
}
LABELLED: dict[str, Kind] = {
    "labelled .tsv": Kind(a_file("a.tsv", _tsv), only_file(_read_labelled)),
    "labelled .csv": Kind(a_file("a.csv", _csv), only_file(_read_labelled)),
    "labelled .jsonl": Kind(a_file("a.jsonl", _json_lines), only_file(_read_labelled)),
    "labelled .parquet": Kind(a_file("a.parquet", _parquet), only_file(_read_labelled)),
    "labelled .json, array": Kind(a_file("a.json", _json_array), only_file(_read_labelled), is_json=True),
    "labelled .json, data": Kind(a_file("a.json", _json_data), only_file(_read_labelled), is_json=True),
    "labelled .jsonl, lists of words": Kind(a_file("a.jsonl", _lists_of_words), only_file(_read_labelled)),
    "labelled .csv, written lists": Kind(a_file("a.csv", _written_lists), only_file(_read_labelled)),
    "labelled .csv in gb18030": Kind(a_file("a.csv", _chinese_csv), only_file(_read_labelled)),
    "labelled .tsv in utf-16": Kind(a_file("a.tsv", _wide("utf-16-le")), only_file(_read_labelled)),
    "labelled .tsv.gz, members": Kind(a_file("a.tsv.gz", _members), only_file(_read_labelled)),
    "labelled .parquet of datasets": Kind(a_file("a.parquet", _class_labels(False)), only_file(_read_labelled)),
    "labelled .arrow of datasets": Kind(a_file("a.arrow", _class_labels(True)), only_file(_read_labelled)),
    "several labels .jsonl": Kind(a_file("a.jsonl", _multi_label), only_file(_read_multi_label)),
    "several labels, a column each .csv": Kind(a_file("a.csv", _flag_columns), only_file(_read_multi_label)),
    "several labels .tsv": Kind(a_file("a.tsv", _separated), only_file(_read_multi_label)),
    "choices .jsonl": Kind(a_file("a.jsonl", _choices), only_file(lambda p: read_choices(p, ColumnsConfig()))),
    "scored pairs .tsv": Kind(
        a_file("a.tsv", lambda: b"sentence1\tsentence2\tscore\na\tb\t1\nc\td\t2.5\n"),
        only_file(lambda path: read_sentences(path, ColumnsConfig(), kind=None)),
    ),
    "parallel .tsv": Kind(
        a_file("a.tsv", lambda: b"source\ttarget\na b\tc d\ne\tf\n"),
        only_file(lambda path: read_parallel(path, SidesConfig())),
    ),
    "CoNLL": Kind(a_file("a.conll", _conll), only_file(_read_tags)),
    "CoNLL, .csv": Kind(a_file("a.csv", lambda: _conll().replace(b" ", b",")), only_file(_read_tags)),
    "tags .jsonl": Kind(a_file("a.jsonl", _tag_lines), only_file(_read_tags)),
    "tags by number .json": Kind(a_file("a.json", _number_lines), only_file(_read_numbers), is_json=True),
    "texts with entities .json": Kind(a_file("a.json", _entity_lines), only_file(_read_tags), is_json=True),
    "tags .parquet": Kind(a_file("a.parquet", _tag_parquet), only_file(_read_tags)),
    "tags .csv": Kind(a_file("a.csv", _tag_csv), only_file(_read_tags)),
    "tags, a word a row .csv": Kind(a_file("a.csv", _word_csv), only_file(_read_tags)),
    "SQuAD": Kind(a_file("a.json", _squad), only_file(read_squad), is_json=True),
    "SQuAD, rows .jsonl": Kind(a_file("a.jsonl", _squad_lines), only_file(read_squad)),
    "SQuAD, rows .json": Kind(
        a_file("a.json", lambda: json.dumps(_squad_rows()).encode()), only_file(read_squad), is_json=True
    ),
    "SQuAD, rows .parquet": Kind(a_file("a.parquet", _squad_parquet), only_file(read_squad)),
    "minimal pairs": Kind(a_file("a.jsonl", _pairs), only_file(read_minimal_pairs)),
    "test file .jsonl": Kind(a_file("a.jsonl", _json_lines), only_file(load_eval_texts)),
    "test file .parquet": Kind(a_file("a.parquet", _parquet), only_file(load_eval_texts)),
    "texts to embed .csv": Kind(a_file("a.csv", _csv), only_file(_streamed)),
    "texts to embed .jsonl": Kind(a_file("a.jsonl", _json_lines), only_file(_streamed)),
    "texts to embed .json, array": Kind(a_file("a.json", _json_array), only_file(_streamed), is_json=True),
    "texts to embed .csv in gb18030": Kind(a_file("a.csv", _chinese_csv), only_file(_streamed)),
    "texts to embed .arrow": Kind(a_file("a.arrow", _class_labels(True)), only_file(_streamed)),
    "texts to embed .parquet": Kind(a_file("a.parquet", _parquet), only_file(_streamed)),
    "lines to predict": Kind(a_file("a.txt", lambda: "\n".join(TEXTS).encode()), only_file(_read_lines)),
}
