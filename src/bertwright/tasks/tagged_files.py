"""Turns a file of tagged words, whatever its form, into words and tags: CoNLL, JSON lines, Parquet, CSV.

Its first bytes say what a file is, not its name alone: JSON lines called .txt, and CoNLL called .tsv, are read as what
they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet

from bertwright.corpus.inputs import format_of, open_text, read_whole
from bertwright.corpus.layouts import fault_in
from bertwright.corpus.nesting import refuse_nested
from bertwright.corpus.tables import UNREADABLE
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.columns import SINGLES, ColumnsConfig
from bertwright.tasks.conll import has_words_alone, is_conll, read_conll, stream_sentences
from bertwright.tasks.string_lists import BLANK
from bertwright.tasks.tables import open_table
from bertwright.tasks.tag_columns import BEGINNINGS, TAGS, WORDS, TaggedWords
from bertwright.tasks.tag_rows import Row, asked_rows, class_names, columns_of_rows, read_rows

Form = Literal["conll", "json", "parquet", "table"]
HEAD_BYTES = 1 << 18
"""Bytes by which the form of a file is recognised."""
JSON = re.compile(r'\s*(\[\s*)?\{\s*"[^"\n]*"\s*:')
"""How JSON lines begin, and an array of objects."""
NAMES = frozenset((*WORDS, *SINGLES, *TAGS, *BEGINNINGS))
BATCH = 1024
"""Rows of Parquet that become objects at a time."""


def read_tagged(path: Path, given: ColumnsConfig, *, label_names: Sequence[str] | None = None) -> TaggedWords:
    """Return the words and tags of a file; tags that are numbers by their names, `label_names` where it has none.

    Raises CorpusError where it cannot be read as what it is, naming the line or row, and UsageError for columns that it
    does not have.
    """
    form = form_of(path, given)
    if form == "conll":
        found = read_conll(path, word_column=given.text, tag_column=given.label)
    else:
        names = class_names(_schema(path)) if form == "parquet" else {}
        found = read_rows(path, partial(_rows, path, form), given, names=names)
    return found.named(given.label_names, else_by=label_names)


def asked_of_tagger(path: Path, given: ColumnsConfig) -> tuple[str, Iterator[tuple[int, tuple[str, ...]]]] | None:
    """Return what a file asks of a tagger, "line" or "row" and questions with their numbers; None where it has texts.

    Words that are cut stay as they are. Raises what `read_tagged` raises.
    """
    form = form_of(path, given)
    if form == "conll":
        return ("line", stream_sentences(path, given.text)) if is_conll(path) or _is_words_a_line(path) else None
    if form == "table" and _head(path).strip().count(b"\n") == 0:
        return None
    asked = asked_rows(path, partial(_rows, path, form), given)
    return None if asked is None else ("row", enumerate(asked, start=1))


def lacks_tags(path: Path, given: ColumnsConfig) -> bool:
    """Return whether a file has words, or texts, and no column of tags; a damaged one does not count."""
    form = form_of(path, given)
    if form == "conll":
        return given.label is None and is_conll(path) and has_words_alone(path)
    source = partial(_rows, path, form)
    try:
        columns_of_rows(path, source, given, labelled=True)
        return False
    except UsageError:
        given = given.model_copy(update={"label": None})
    except CorpusError:
        pass
    return columns_of_rows(path, source, given, labelled=False).tags is None


def form_of(path: Path, given: ColumnsConfig) -> Form:
    """Return the form of a file of tagged words; raises CorpusError where there is none."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a file of words and their tags that exists")
    kind, head = format_of(path), _head(path)
    if kind == "parquet" or head.startswith(b"PAR1"):
        return "parquet"
    text = head.decode(errors="replace").removeprefix("\ufeff")
    if kind == "json" or JSON.match(text):
        return "json"
    is_table = kind in ("csv", "tsv") and not is_conll(path) and _is_table(text, given)
    return "table" if is_table else "conll"


def _head(path: Path) -> bytes:
    with open_text(path) as opened:
        head: bytes = opened.stream.read(HEAD_BYTES)
    return head


def _is_table(text: str, given: ColumnsConfig) -> bool:
    """Say whether delimited text is a table: no blank lines between rows, and names or several words in its cells."""
    lines = text.strip().split("\n")[: -1 if len(text) >= HEAD_BYTES else None]
    if any(not line.strip() for line in lines):
        return False
    if any(name is not None and not name.isdecimal() for name in (given.text, given.label)):
        return True
    named = {cell.strip(' \t\r"').lower() for cell in re.split(r"[\t,;|]", lines[0])} & NAMES
    several = (len(BLANK.split(cell.strip())) for line in lines for cell in line.split("\t"))
    return bool(named) or any(count > 1 for count in several)


def _is_words_a_line(path: Path) -> bool:
    """Say whether a file called otherwise is CoNLL: lines of two cells or more, the first a word, and blank lines."""
    lines = _head(path).decode(errors="replace").strip().split("\n")
    if all(line.strip() for line in lines):
        return False
    held = [re.split(r"\t|,", line) for line in lines[:-1] if line.strip()]
    return all(len(cells) > 1 and not BLANK.search(cells[0].strip()) for cells in held)


def _schema(path: Path) -> pa.Schema:
    try:
        return pa.parquet.read_schema(path)
    except UNREADABLE as error:
        raise CorpusError(f"{path} is not a whole Parquet file ({error}); fetch it again") from error


def _rows(path: Path, form: Form, columns: Collection[str] | None) -> Iterator[Row]:
    """Yield the rows of a table."""
    rows = {"json": _json_rows, "parquet": _parquet_rows}.get(form, _delimited_rows)
    return enumerate(rows(path, columns), start=1)


def _json_rows(path: Path, columns: Collection[str] | None) -> Iterator[dict[str, Any]]:
    data = read_whole(path)
    fault = fault_in(data)
    if fault is not None:
        raise CorpusError(f"{path} is not UTF-8 text at byte {fault:,}; convert it to UTF-8")
    refuse_nested(data, path)
    text = data.decode()
    try:
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = (json.loads(line) for line in text.split("\n") if line.strip())
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict):
                raise CorpusError(f"{path} row {number:,} is no JSON object; give an object a line")
            yield row
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path} is not one JSON object a line ({error}); fix it") from error


def _parquet_rows(path: Path, columns: Collection[str] | None) -> Iterator[dict[str, Any]]:
    try:
        with pa.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=BATCH, columns=None if columns is None else list(columns)):
                batch.validate(full=True)
                yield from batch.to_pylist()
    except UNREADABLE as error:
        raise CorpusError(f"{path} is not a whole Parquet file ({error}); fetch it again") from error


def _delimited_rows(path: Path, columns: Collection[str] | None) -> Iterator[dict[str, Any]]:
    table = open_table(path, names=NAMES)
    for batch in table.to_batches(BATCH):
        yield from batch.to_pylist()
