"""Turns raw text or a DATA folder into what will hurt training on it, and the flag that fixes each: one table.

bertwright doctor my-texts/            bertwright doctor data --test sst2/dev.tsv
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bertwright.corpus.dedup.overlap import Overlap
from bertwright.corpus.eval_texts import load_eval_texts
from bertwright.corpus.examine import examine_data, examine_inputs
from bertwright.corpus.findings import findings_of
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.errors import UsageError
from bertwright.flags import with_flags
from bertwright.log import print_lines, print_table
from bertwright.tokenizer.load import load_tokenizer
from bertwright.types import listed


@with_flags("doctor")
def doctor(
    things: Path | str | Sequence[Path | str], *, test: Sequence[Path | str] = (), sample_mb: int = 64,
    language: str | None = None, column: str | None = None,
    document_boundary: Literal["auto", "blank", "file", "line"] = "auto", encoding: str | None = None,
    tokenizer: Path | str | None = None, as_json: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Examine a DATA folder, or inputs as `prepare` takes them; print a table (or JSON), and return what it says.

    test         files whose texts should not stand in the corpus: of any task, in any format
    language     of inputs; found as `prepare` finds it where not given
    sample_mb    megabytes of text looked at, at most
    encoding     of inputs: how characters are written; detected where not given
    tokenizer    of inputs: one whose fraction of unknown tokens is shown

    Raises CorpusError or DataError where something cannot be read, UsageError for an invalid value.

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
    if as_json:
        print_lines([json.dumps(report, indent=2, ensure_ascii=False)])
    else:
        rows = [[finding.name, finding.figure, finding.verdict, finding.remedy] for finding in findings]
        title = f"{', '.join(named)}: looked at {profile.looked_at}"
        print_table(title, ["what", "found", "verdict", "what to do"], rows)
    return report
