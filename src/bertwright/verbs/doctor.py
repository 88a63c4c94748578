"""Turns raw text or a DATA folder into what will hurt training on it, and the flag that fixes each: one table.

    bertwright doctor my-texts/            bertwright doctor data --test sst2/dev.tsv

Of what is large a part is looked at, and its size is said: text from the front of up to 64 files spread over the input,
or documents spread over the shards.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from bertwright.corpus.builtin import PYTHON_DOCS, write_python_docs
from bertwright.corpus.dedup.overlap import Overlap
from bertwright.corpus.eval_texts import load_eval_texts
from bertwright.corpus.filters.language_choice import USUAL, choose_language
from bertwright.corpus.findings import Finding, findings_of
from bertwright.corpus.profile import Examination
from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.inputs import Inputs, find_inputs
from bertwright.corpus.readers.layouts import describe_layout
from bertwright.corpus.readers.remote import TextFile
from bertwright.corpus.shards import Shards, read_manifest
from bertwright.corpus.survey import survey
from bertwright.errors import CorpusError, UsageError
from bertwright.files import human_bytes
from bertwright.flags import with_flags
from bertwright.log import print_lines, print_table, progress_bar
from bertwright.tokenizer.bulk import BulkEncoder
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.types import listed

MOST_FILES = 64
HELD_OUT_BYTES = 8 << 20
"""Held-out text that is looked for among the training text, in bytes."""
BYTES_A_TOKEN = 4
DECODED = 500
"""Documents decoded at a time."""
COPIED = 0.5
"""Share of a held-out document's thirteen-word sequences from which it counts as standing in the training text."""


@dataclass
class Looked:
    """What an examination told, beside its counts.

    part      in words, what was looked at
    tokens    tokens by what is known of them: "all" and "unknown"; empty without a tokenizer
    held_out  share of held-out documents that stand in the training text too; None where nothing is held out
    tests     of each test file, (its texts, of which found)
    language  code of the language it is prepared as
    files     files of the inputs that were looked into; 0 for DATA
    refused   what `prepare` says of those of them that it refuses
    skipped   files of folders and globs that are of no format that is read
    trained_vocabulary  tokens of the vocabulary of DATA that `prepare` trained; 0 where one was given, or there is none
    """

    part: str
    tokens: dict[str, int] = field(default_factory=dict)
    held_out: float | None = None
    tests: dict[str, tuple[int, int]] = field(default_factory=dict)
    language: str = USUAL
    trained_vocabulary: int = 0
    files: int = 0
    refused: Sequence[str] = ()
    skipped: Sequence[Path] = ()


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
    tokenizer    of inputs: one whose share of unknown tokens is told

    Raises CorpusError or DataError where something cannot be read, UsageError where the words are off.

    >>> # needs a DATA folder
    >>> doctor("data", test=["sst2/dev.tsv"])["findings"]["unknown tokens"]["value"]  # doctest: +SKIP
    0.0
    """
    if sample_mb < 1:
        raise UsageError(f"--sample-mb {sample_mb} is no amount of text; give 1 or more")
    named = listed(things, what="things")
    overlaps = {path: Overlap(load_eval_texts(Path(path))) for path in listed(test, what="test")}
    budget = sample_mb * 1_000_000
    is_data = len(named) == 1 and (Path(named[0]) / "manifest.json").is_file()
    with tempfile.TemporaryDirectory(prefix="bertwright-doctor-") as scratch:
        if is_data:
            examination, looked = _of_data(Path(named[0]), Path(scratch), overlaps, budget)
        else:
            reading = ReadOptions(column, document_boundary, skip_broken=True, encoding=encoding)
            given = load_tokenizer(Path(tokenizer)) if tokenizer else None
            examination, looked = _of_inputs(named, Path(scratch), overlaps, budget, reading, language, given)
    for path, overlap in overlaps.items():
        checked = overlap.sequences > 0
        looked.tests[path] = int(checked.sum()), int((overlap.found_shares()[checked] > 0).sum())
    findings = findings_of(examination, looked, prepared=is_data)
    report = {"looked_at": looked.part, "findings": {finding.name: finding.as_dict() for finding in findings}}
    if as_json:
        print_lines([json.dumps(report, indent=2, ensure_ascii=False)])
    else:
        _print(", ".join(named), looked.part, findings)
    return report


def _of_inputs(
    named: list[str], scratch: Path, overlaps: dict[str, Overlap], budget: int, reading: ReadOptions, language: str |
    None, tokenizer: Tokenizer | None,
) -> tuple[Examination, Looked]:  # fmt: skip
    """Examine raw text."""
    outside = [name for name in named if name != PYTHON_DOCS]
    found = find_inputs(outside) if outside else Inputs([], [])
    paths = found.files
    paths += [write_python_docs(scratch)] if PYTHON_DOCS in named else []
    layout = describe_layout(paths, reading)
    picked = [paths[i] for i in sorted({i * len(paths) // MOST_FILES for i in range(MOST_FILES)})]
    refused = _refusals(picked, replace(reading, skip_broken=False), layout, budget // len(picked))
    if len(refused) == len(paths):
        raise CorpusError(refused[0])
    look = survey(paths, reading, layout=layout)
    code = language or choose_language(paths, reading, layout=layout).code
    encoder = BulkEncoder(tokenizer) if tokenizer else None
    examination = Examination(_folder(scratch), language=code, newline=look.newline)
    tokens = {"all": 0, "unknown": 0} if tokenizer else {}
    with progress_bar() as bar:
        task = bar.add_task("examining", total=min(budget, look.text_bytes))
        for texts in _front_of_each(picked, reading, layout, budget // len(picked)):
            kept = examination.look(texts)
            _look_for(overlaps.values(), kept)
            if encoder and tokenizer:
                ids = encoder.encode(kept.to_pylist())[0]
                tokens["all"] += len(ids)
                tokens["unknown"] += int((ids == tokenizer.special.unk).sum())
            bar.update(task, completed=examination.counts["bytes"])
    share = min(1.0, examination.counts["bytes"] / max(1, look.text_bytes))
    files = (
        f"{len(picked):,} of {len(paths):,} files"
        if len(picked) < len(paths)
        else f"{len(paths):,} file{'s' * (len(paths) > 1)}"
    )
    part = f"{human_bytes(examination.counts['bytes'])} of text from {files}, {_about(share)}"
    return examination, Looked(part, tokens, language=code, files=len(picked), refused=refused, skipped=found.skipped)


def _refusals(paths: list[TextFile], reading: ReadOptions, layout: Any, most: int) -> list[str]:
    """Return what `prepare` would say of the files that it would refuse, as far as they are looked into."""
    refused = []
    for path in paths:
        try:
            for _ in _front_of_each([path], reading, layout, most):
                pass
        except CorpusError as error:
            refused.append(str(error))
    return refused


def _front_of_each(paths: list[TextFile], reading: ReadOptions, layout: Any, most: int) -> Iterator[pa.StringArray]:
    """Yield documents from the front of each file, about `most` bytes of each."""
    for path in paths:
        taken = 0
        for batch in read_documents([path], reading, layout=layout):
            yield batch.texts
            taken += batch.texts.nbytes
            if taken >= most:
                break


def _of_data(data: Path, scratch: Path, overlaps: dict[str, Overlap], budget: int) -> tuple[Examination, Looked]:
    """Examine a DATA folder: single sentences and unknown tokens in all of it, the rest in documents spread over it."""
    manifest, tokenizer = read_manifest(data), load_tokenizer(data)
    train = Shards.open(data, "train")
    train.check(tokenizer.vocab_size)
    examination = Examination(_folder(scratch), language=manifest["language"], newline="paragraph")
    valid = Shards.open(data, "valid") if manifest["splits"].get("valid", {}).get("documents") else None
    held_out = Overlap(_texts(valid, tokenizer, HELD_OUT_BYTES)) if valid else None
    sought = [*overlaps.values(), *([held_out] if held_out else [])]
    with progress_bar() as bar:
        task = bar.add_task("examining", total=min(budget, train.token_count * BYTES_A_TOKEN))
        for texts in _decoded(train, tokenizer, budget):
            _look_for(sought, examination.look(texts, count_sentences=False))
            bar.update(task, completed=examination.counts["bytes"])
    unknown = sum(int((shard.tokens == tokenizer.special.unk).sum()) for shard in train.shards)
    words = manifest["tokenizer"]
    looked = Looked(
        "", {"all": train.token_count, "unknown": unknown}, language=manifest["language"],
        trained_vocabulary=0 if words["kind"] == "given" else words["vocab_size"],
    )  # fmt: skip
    for shard in train.shards:
        examination.counts["one_sentence"] += int((np.diff(shard.sentence_offsets) <= 1).sum())
    examination.counts["all_documents"] = train.document_count
    if held_out:
        looked.held_out = float((held_out.found_shares()[held_out.sequences > 0] >= COPIED).mean())
    share = examination.counts["documents"] / max(1, train.document_count)
    looked.part = (
        f"{examination.counts['documents']:,} of {train.document_count:,} documents, {_about(share)}; "
        "single sentences and unknown tokens: all"
    )
    return examination, looked


def _decoded(shards: Shards, tokenizer: Tokenizer, most: int) -> Iterator[pa.StringArray]:
    """Yield the text of documents spread evenly over a split, about `most` bytes together."""
    share = min(1.0, most / max(1, shards.token_count * BYTES_A_TOKEN))
    count = max(1, round(shards.document_count * share))
    picked = np.unique(np.linspace(0, shards.document_count - 1, count).round().astype(np.int64))
    for start in range(0, len(picked), DECODED):
        ids = [shards.tokens(int(document)).tolist() for document in picked[start : start + DECODED]]
        yield pa.array(tokenizer.backend.decode_batch(ids, skip_special_tokens=False), pa.string())


def _texts(shards: Shards, tokenizer: Tokenizer, most: int) -> pa.StringArray:
    return pa.concat_arrays(list(_decoded(shards, tokenizer, most)))


def _look_for(overlaps: Iterable[Overlap], texts: pa.StringArray) -> None:
    for overlap in overlaps:
        overlap.look(texts)


def _folder(scratch: Path) -> Path:
    folder = scratch / "seen"
    folder.mkdir()
    return folder


def _about(share: float) -> str:
    return "all of it" if share > 0.99 else f"about {share:.1%} of it"


def _print(title: str, part: str, findings: list[Finding]) -> None:
    rows = [[f.name, f.figure, f.verdict, f.remedy] for f in findings]
    print_table(f"{title}: looked at {part}", ["what", "found", "verdict", "what to do"], rows)
