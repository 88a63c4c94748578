"""Turns raw text or a DATA folder into what will hurt training on it, and the flag that fixes each: one table.

bertwright doctor my-texts/            bertwright doctor data --test sst2/dev.tsv
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from bertwright.corpus.dedup.overlap import Overlap
from bertwright.corpus.eval_texts import load_eval_texts
from bertwright.corpus.examine import examine_data, examine_inputs
from bertwright.corpus.findings import findings_of
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.errors import UsageError
from bertwright.flags import with_flags
from bertwright.log import ResultTable
from bertwright.result import Result
from bertwright.tokenizer.load import load_tokenizer
from bertwright.types import listed


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
    if sample_mb < 1:
        raise UsageError(f"--sample-mb {sample_mb} is no amount of text; give 1 or more")
    named = listed(things, what="things")
    overlaps = {path: Overlap(load_eval_texts(Path(path))) for path in listed(test, what="test")}
    wanted, most_bytes = list(overlaps.values()), sample_mb * 1_000_000
    with tempfile.TemporaryDirectory(prefix="bertwright-doctor-") as folder:
        scratch = Path(folder)
        if len(named) == 1 and (Path(named[0]) / "manifest.json").is_file():
            profile = examine_data(Path(named[0]), scratch, wanted, most_bytes=most_bytes)
        else:
            options = ReadOptions(column, document_boundary, skip_broken=True, encoding=encoding)
            profile = examine_inputs(
                named, scratch, wanted, most_bytes=most_bytes, options=options, language=language,
                tokenizer=load_tokenizer(Path(tokenizer)) if tokenizer else None,
            )  # fmt: skip
    findings = findings_of(replace(profile, tests={path: overlap.found_texts() for path, overlap in overlaps.items()}))
    report = {"looked_at": profile.looked_at, "findings": {finding.name: finding.as_dict() for finding in findings}}
    rows = [[finding.name, finding.figure, finding.verdict, finding.remedy] for finding in findings]
    title = f"{', '.join(named)}: looked at {profile.looked_at}"
    return Result(report, ResultTable(title, ["what", "found", "verdict", "what to do"], rows))
