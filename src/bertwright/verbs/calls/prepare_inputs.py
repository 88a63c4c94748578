"""Looks at the inputs of `prepare` before anything is written: which files, how much text, how much disk."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bertwright.corpus.builtin import write_python_docs
from bertwright.corpus.cooccurrence import NEIGHBOURS, most_bytes
from bertwright.corpus.dedup.dedup_state import SEEN_FOLDER
from bertwright.corpus.filters.language_choice import choose_language
from bertwright.corpus.journal import JOURNAL
from bertwright.corpus.pipeline import Source
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.inputs import Inputs, describe_skipped, find_inputs
from bertwright.corpus.readers.layouts import LAYOUTS, describe_layout
from bertwright.corpus.survey import Survey, survey
from bertwright.errors import OutputExistsError
from bertwright.files import clear_output, free_space, human_bytes, refuse_existing, require_space
from bertwright.log import Facts, note, note_once
from bertwright.result import Result
from bertwright.tokenizer.load import load_tokenizer
from bertwright.tokenizer.train_vocabulary import MULTIPLE

BUILTINS = {"builtin:python-docs": write_python_docs}
BUILTIN_FOLDER = ".builtin"
DATA_FILES = (
    "manifest.json", "report.json", "tokenizer", "train-*.arrow", "valid-*.arrow", NEIGHBOURS, JOURNAL, SEEN_FOLDER,
    BUILTIN_FOLDER,
)  # fmt: skip
"""What a DATA folder holds, whole or not."""
SHARD_BYTES_PER_TEXT_BYTE = 1.0
"""English takes 0.53, Chinese 0.75, and the amount of text is an estimate."""
VOCABULARY_BY_TEXT = ((500_000_000, 8_192), (2_000_000_000, 16_384))
LARGEST_VOCABULARY = 30_528
"""The 30,522 of BERT rounded up to a multiple of 64."""


@dataclass(frozen=True)
class PrepareOptions:
    """What decides the bytes of a DATA folder, besides the text."""

    language: str | None
    kind: str
    vocab_size: int | None
    lowercase: bool
    tokenizer: str | None
    column: str | None
    documents: Literal["auto", "blank", "file", "line"]
    skip_broken: bool
    encoding: str | None
    held_out: float
    near_duplicates: float | None
    repeated_paragraphs: int | None
    filter: list[str]
    only_language: str | None
    shard_text: int


def find_sources(
    inputs: list[str], valid: list[str], out: Path, options: PrepareOptions, reading: ReadOptions
) -> list[Source]:
    """Return what to read, in order; given held-out files come first, so that copies of them never reach training."""
    named = [(valid, 1.0), (inputs, 0.0)] if valid else [(inputs, options.held_out)]
    sources = []
    for names, share in named:
        outside = [name for name in names if name not in BUILTINS]
        found = find_inputs(outside) if outside or not names else Inputs([], [])
        if found.skipped:
            note_once(describe_skipped(found.skipped))
        paths = found.files
        paths += [BUILTINS[name](out / BUILTIN_FOLDER) for name in names if name in BUILTINS]
        sources.append(Source(paths, describe_layout(paths, reading), share))
    return sources


def announce(train: Source, look: Survey, out: Path) -> None:
    """Say what was found, and stop now if the disk cannot hold what will be written."""
    layout = f", {LAYOUTS[train.layout]}" if train.layout else ""
    wrapped = ", lines taken as wrapped" if look.newline == "wrapped" else ""
    files = "1 file" if len(train.paths) == 1 else f"{len(train.paths):,} files"
    note(f"{files}, about {human_bytes(look.text_bytes)} of text{layout}{wrapped}")
    shards, counts = int(look.text_bytes * SHARD_BYTES_PER_TEXT_BYTE), most_bytes(look.text_bytes)
    require_space(out, shards + counts, what="preparing this text")
    note(f"the shards will take about {human_bytes(shards)}, and counts of neighbours up to {human_bytes(counts)}")


def vocabulary_for(text_bytes: int) -> int:
    """Return the vocabulary size that suits an amount of text."""
    return next((size for most, size in VOCABULARY_BY_TEXT if text_bytes <= most), LARGEST_VOCABULARY)


def preview(inputs: list[str], valid: list[str], out: Path, options: PrepareOptions, *, overwrite: bool) -> Result:
    """Return what preparing these inputs would do, writing nothing: settings, sizes and disk.

    Raises what preparing would raise before it writes: for inputs that cannot be read, and a place that is taken.
    """
    reading = ReadOptions(options.column, options.documents, options.skip_broken, options.encoding)
    with tempfile.TemporaryDirectory(prefix="bertwright-dry-run-") as scratch:
        train = find_sources(inputs, valid, Path(scratch), options, reading)[-1]
        look = survey(train.paths, reading, layout=train.layout)
        language = options.language or choose_language(train.paths, reading, layout=train.layout).code
    require_replaceable(out, inputs, valid, options, overwrite=overwrite)
    size = options.vocab_size or vocabulary_for(look.text_bytes)
    given = load_tokenizer(Path(options.tokenizer)) if options.tokenizer else None
    disk = int(look.text_bytes * SHARD_BYTES_PER_TEXT_BYTE) + most_bytes(look.text_bytes)
    plan: dict[str, Any] = {
        "settings": {**asdict(options), "language": language},
        "files": len(train.paths),
        "text_bytes": look.text_bytes,
        "vocab_size": given.vocab_size if given else -(-size // MULTIPLE) * MULTIPLE,
        "disk_bytes": disk,
        "free_bytes": free_space(out),
        "out": str(out),
    }
    settings = {name: value for name, value in plan["settings"].items() if value not in (None, [], False)}
    facts = {
        "inputs": f"{len(train.paths):,} files, about {human_bytes(look.text_bytes)} of text",
        "vocabulary": f"{plan['vocab_size']:,} tokens, {'given' if given else f'a {options.kind} to train'}",
        "held out": ", ".join(valid) or f"{options.held_out:.1%} of the documents",
        "disk": f"up to {human_bytes(disk)} of {human_bytes(plan['free_bytes'])} free",
        "settings": ", ".join(f"{name} {value}" for name, value in settings.items() if name != "shard_text"),
    }
    return Result(plan, Facts(f"dry run: prepare would write {out}", facts))


def require_replaceable(
    out: Path, inputs: list[str], valid: list[str], options: PrepareOptions, *, overwrite: bool, clear: bool = False
) -> None:
    """Raise OutputExistsError where `out` holds finished data, with `overwrite` anything else; `clear` deletes it."""
    if overwrite:
        needed = [one for one in (*inputs, *valid, options.tokenizer) if one and one not in BUILTINS]
        clear_output(out, ours=DATA_FILES, needed=needed, dry_run=not clear)
    elif (out / "manifest.json").exists():
        raise OutputExistsError(f"{out} already holds prepared data; give another --out, or --overwrite to replace it")
    elif not (out / JOURNAL).exists():
        refuse_existing(out, instead="give another --out, or delete it first")
