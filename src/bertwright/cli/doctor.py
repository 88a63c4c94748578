"""Turns the words after `bertwright doctor` into a call of the Python function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def doctor_command(
    *things: str,
    test: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    sample_mb: int = 64,
    language: str | None = None,
    column: str | None = None,
    document_boundary: Literal["auto", "blank", "file", "line"] = "auto",
    encoding: str | None = None,
    tokenizer: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Examine text before training: copies, languages, broken characters, single sentences, overlap with tests.

    Says what will hurt masked words (MLM) or next sentences (NSP), and the flag that fixes it.

    Example:
        bertwright doctor my-texts/ --test sst2/dev.tsv
        bertwright doctor data --json

    Parameters
    ----------
    things
        A DATA folder, or files, folders, globs and addresses as prepare takes them.
    test
        Files of tasks, of any format, whose texts should not stand in the corpus.
    sample_mb
        Megabytes of text looked at, at most, spread over the input; the table says how much of it that is.
    language
        Of inputs: code of the language, which decides how sentences are found; as `prepare` finds it where not given.
    column
        Name of the text column of .jsonl, .csv, .tsv, .parquet and .arrow files.
    document_boundary
        Where a document ends in .txt files: at a blank line, the end of the file, or of the line.
    encoding
        Of inputs: encoding of the files, such as gb18030; detected where not given and not UTF-8.
    tokenizer
        Of inputs: a tokenizer.json or vocab.txt, or its folder, whose fraction of unknown tokens is shown.
    json
        Print JSON instead of a table.
    """
    from bertwright.verbs.doctor import doctor

    doctor(
        things, test=test or (), sample_mb=sample_mb, language=language, column=column,
        document_boundary=document_boundary, encoding=encoding, tokenizer=tokenizer, as_json=json,
    )  # fmt: skip
