"""Turns files that a model will be evaluated on, of any task, into the texts in them, to look for these in a corpus.

Whatever the task, its texts are the strings of the file: the text columns of tables, the strings of .json and .jsonl at
any depth, the lines of anything else, and the sentences of CoNLL files. Words
that stand in a list are one text, blanks between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from bertwright.corpus.readers.blocks import read_text
from bertwright.corpus.readers.cells import cell_words, list_items
from bertwright.corpus.readers.characters import parse_json
from bertwright.corpus.readers.formats import format_of, plain_suffix
from bertwright.corpus.readers.text_column import text_columns
from bertwright.errors import CorpusError

SAMPLE_LINES = 1000
MOST_COLUMNS = 12
"""Columns of the widest CoNLL files."""


def load_eval_texts(path: Path, encoding: str | None = None) -> pa.StringArray:
    """Return the texts of a test file, each once; raises CorpusError where it cannot be read or holds none."""
    if not path.is_file():
        raise CorpusError(f"there is no test file {path}; give one that exists")
    kind = format_of(path)
    texts = text_columns(path) if kind in ("parquet", "arrow") else _texts_of_lines(path, kind, encoding)
    distinct = pa.array(dict.fromkeys(text for text in texts if text), pa.string())
    if not len(distinct):
        raise CorpusError(f"the test file {path} holds no text")
    return distinct


def _texts_of_lines(path: Path, kind: str | None, encoding: str | None) -> Iterator[str]:
    text = read_text(path, encoding)
    lines = text.replace("\r\n", "\n").split("\n")
    if kind == "json":
        return _strings_of_json(text, lines, path)
    if kind in ("csv", "tsv"):
        commas = kind == "csv"
        tokens = _one_token_a_line(lines, commas=commas)
        cells = _sentences_of_tokens(lines, commas=commas) if tokens else text_columns(path, encoding)
        return (" ".join(cell_words(cell)) if list_items(cell) else cell for cell in cells)
    tokens = plain_suffix(path) in (".conll", ".bio", ".iob", ".iob2") or _one_token_a_line(lines)
    return _sentences_of_tokens(lines) if tokens else iter(lines)


def _strings_of_json(text: str, lines: list[str], path: Path) -> Iterator[str]:
    """Yield the strings of one JSON value, or of one a line."""
    try:
        values = [parse_json(text)]
    except (ValueError, RecursionError):
        try:
            values = [parse_json(line) for line in lines if line.strip()]
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"the test file {path} is neither JSON nor JSON lines ({error})") from error
    waiting: list[Any] = values
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list) and all(isinstance(one, str) and " " not in one for one in value):
            yield " ".join(value)
        elif isinstance(value, list):
            waiting.extend(value)


def _one_token_a_line(lines: list[str], *, commas: bool = False) -> bool:
    """Return whether lines are those of a CoNLL file: a token and its columns each, sentences ended by blank lines."""
    sample = [line for line in lines[:SAMPLE_LINES] if line.strip()]
    columns = {len(_cells(line, commas=commas)) for line in sample if not line.startswith(("-DOCSTART-", "# "))}
    return len(sample) < len(lines[:SAMPLE_LINES]) - 1 and len(columns) == 1 and 2 <= min(columns) <= MOST_COLUMNS


def _cells(line: str, *, commas: bool) -> list[str]:
    return line.split(",") if commas else line.split()


def _sentences_of_tokens(lines: list[str], *, commas: bool = False) -> Iterator[str]:
    """Yield the words of each sentence, blanks between them; comments and numbers of words are left out."""
    sentence: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("# ") and len(line.split()) != 2:
            continue
        if line.strip():
            sentence.append(_cells(line, commas=commas))
        elif sentence:
            numbered = [cells[0] for cells in sentence] == [str(place + 1) for place in range(len(sentence))]
            yield " ".join(cells[int(numbered and len(cells) > 2)] for cells in sentence)
            sentence = []
