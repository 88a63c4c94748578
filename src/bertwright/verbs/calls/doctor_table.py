"""Turns texts or a DATA folder into the table of findings that `doctor` shows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bertwright.corpus.dedup.overlap import Overlap
from bertwright.corpus.eval_texts import load_eval_texts
from bertwright.corpus.examine import examine_data, examine_inputs
from bertwright.corpus.findings import findings_of
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.errors import UsageError
from bertwright.log import ResultTable
from bertwright.result import Result
from bertwright.tokenizer.load import load_tokenizer
from bertwright.types import listed


def doctor_table(
    things: Path | str | Sequence[Path | str],
    test: Path | str | Sequence[Path | str],
    options: ReadOptions,
    *,
    sample_mb: int,
    language: str | None,
    tokenizer: Path | str | None,
) -> Result:
    """Return the findings about `things`, which are read with `options` where they are texts; see `doctor`."""
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
            profile = examine_inputs(
                named, scratch, wanted, most_bytes=most_bytes, options=options, language=language,
                tokenizer=load_tokenizer(Path(tokenizer)) if tokenizer else None,
            )  # fmt: skip
    findings = findings_of(replace(profile, tests={path: overlap.found_texts() for path, overlap in overlaps.items()}))
    report = {"looked_at": profile.looked_at, "findings": {finding.name: finding.as_dict() for finding in findings}}
    rows = [[finding.name, finding.figure, finding.verdict, finding.remedy] for finding in findings]
    title = f"{', '.join(named)}: looked at {profile.looked_at}"
    return Result(report, ResultTable(title, ["what", "found", "verdict", "what to do"], rows))
