"""Turns raw text or a DATA folder into what will hurt training on it, and the flag that fixes each: one table.

bertwright doctor my-texts/            bertwright doctor data --test sst2/dev.tsv

The work is in verbs/calls/doctor_table.py, which is imported by a call: --help does not wait for readers and arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bertwright.flags import with_flags
from bertwright.result import Result


@with_flags("doctor")
def doctor(
    things: Path | str | Sequence[Path | str],
    *,
    test: Path | str | Sequence[Path | str] = (),
    sample_mb: int = 64,
    language: str | None = None,
    column: str | None = None,
    document_boundary: Literal["auto", "blank", "file", "line"] = "auto",
    encoding: str | None = None,
    tokenizer: Path | str | None = None,
) -> Result:
    """Examine text before training: copies, languages, broken characters, single sentences, overlap with tests.

    Says what will hurt masked words (MLM) or next sentences (NSP), and the flag that fixes it.

    Parameters
    ----------
    things
        A DATA folder, or files, folders, globs and addresses as prepare takes them.
    test
        Files of tasks, of any format, whose texts should not be in the corpus.
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
        Of inputs: a tokenizer.json or vocab.txt, or its folder; the fraction of unknown tokens is reported.

    Raises
    ------
    CorpusError
        Where text cannot be read; DataError where DATA cannot; UsageError for an invalid call.

    Examples
    --------
    >>> # needs a DATA folder
    >>> doctor("data", test=["sst2/dev.tsv"])["findings"]["unknown tokens"]["value"]  # doctest: +SKIP
    0.0
    """
    from bertwright.corpus.readers.formats import ReadOptions
    from bertwright.verbs.calls.doctor_table import doctor_table

    options = ReadOptions(column, document_boundary, skip_broken=True, encoding=encoding)
    return doctor_table(things, test, options, sample_mb=sample_mb, language=language, tokenizer=tokenizer)
