"""Turns the call of `prepare` into checked options and the files to read, before anything is written.

Which files, how much text, how much disk: what `--dry-run` prints, and what is announced before the work.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bertwright.corpus.builtin import PYTHON_DOCS
from bertwright.corpus.cooccurrence import most_bytes
from bertwright.corpus.data_folder import BUILTIN_FOLDER, DATA_FILES
from bertwright.corpus.encode import UNSPACED
from bertwright.corpus.filters.text_filter import TextFilter, filter_of
from bertwright.corpus.journal import refuse_taken
from bertwright.corpus.pipeline import Source
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.inputs import describe_skipped, find_texts
from bertwright.corpus.readers.layouts import LAYOUTS, detect_layout
from bertwright.corpus.survey import Survey, survey
from bertwright.corpus.vocabulary import vocabulary_size
from bertwright.errors import UsageError
from bertwright.files import clear_output, free_space, human_bytes, require_space
from bertwright.log import Facts, note, note_once
from bertwright.result import Result
from bertwright.tokenizer.load import load_tokenizer
from bertwright.tokenizer.train_vocabulary import KINDS, SMALLEST

MOST_ADDED = 100_000
"""Pieces that may be added to a vocabulary."""
SHARD_BYTES_PER_TEXT_BYTE = 1.0
"""English takes 0.53, Chinese 0.75, and the amount of text is an estimate."""


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
    extend_vocab: int | None = None
    new_tokenizer: bool = False

    @property
    def reading(self) -> ReadOptions:
        """How the files are read."""
        return ReadOptions(self.column, self.documents, self.skip_broken, self.encoding)

    @property
    def text_filter(self) -> TextFilter | None:
        """What lines and documents must be to stay; raises UsageError for rules that are not known."""
        return filter_of(self.filter, self.only_language, spaced=self.language not in UNSPACED)

    def files(self, inputs: list[str]) -> list[str]:
        """Return the files and folders that are read, so that none of them may be deleted."""
        return [one for one in (*inputs, self.tokenizer) if one and one != PYTHON_DOCS]

    def check(self) -> None:
        """Raise UsageError for a value that no flag can have, or flags that do not go together."""
        if self.kind not in KINDS:
            raise UsageError(f"--kind {self.kind} is not known; choose one of {', '.join(KINDS)}")
        if not 0 <= self.held_out < 1:
            wrong = f"--valid-fraction {self.held_out} is no fraction of the documents"
            raise UsageError(f"{wrong}; give a number from 0 to below 1")
        self._check_vocabulary()
        if self.near_duplicates is not None and not 0.5 <= self.near_duplicates < 1:
            wrong = f"--near-duplicates {self.near_duplicates} is no similarity to look for"
            raise UsageError(f"{wrong}; give one from 0.5 to below 1")
        if self.repeated_paragraphs is not None and self.repeated_paragraphs < 1:
            raise UsageError(f"--repeated-paragraphs {self.repeated_paragraphs} would leave nothing; give 1 or more")
        _ = self.text_filter  # raises where its rules are not known

    def _check_vocabulary(self) -> None:
        """Raise UsageError where the flags about the vocabulary do not go together."""
        if self.vocab_size is not None and self.vocab_size < SMALLEST:
            raise UsageError(f"--vocab-size {self.vocab_size} is too small; give {SMALLEST} or more")
        if self.extend_vocab is not None and self.new_tokenizer:
            raise UsageError("--extend-vocab and --new-tokenizer cannot both be given; leave one out")
        flag = "--extend-vocab" if self.extend_vocab is not None else "--new-tokenizer" if self.new_tokenizer else None
        if flag and not self.tokenizer:
            raise UsageError(f"{flag} goes on from the vocabulary of a model; name it with --tokenizer MODEL")
        if self.extend_vocab is not None and not 1 <= self.extend_vocab <= MOST_ADDED:
            raise UsageError(f"--extend-vocab {self.extend_vocab} is no number of pieces; give 1 to {MOST_ADDED:,}")
        if self.tokenizer and self.vocab_size and not self.new_tokenizer:
            raise UsageError(
                "--tokenizer and --vocab-size cannot both be given; leave one out, or add --new-tokenizer to train one "
                "for a model of that tokenizer"
            )


def find_sources(inputs: list[str], valid: list[str], out: Path, options: PrepareOptions) -> list[Source]:
    """Return what to read, in order; given held-out files come first, so that copies of them never reach training."""
    named = [(valid, 1.0), (inputs, 0.0)] if valid else [(inputs, options.held_out)]
    sources = []
    for names, fraction in named:
        found = find_texts(names, out / BUILTIN_FOLDER)
        if found.skipped:
            note_once(describe_skipped(found.skipped))
        sources.append(Source(found.files, detect_layout(found.files, options.reading), fraction))
    return sources


def announce(train: Source, found: Survey, out: Path) -> None:
    """Print what was found, and stop now if the disk cannot hold what will be written."""
    layout = f", {LAYOUTS[train.layout]}" if train.layout else ""
    wrapped = ", lines taken as wrapped" if found.newline == "wrapped" else ""
    files = "1 file" if len(train.paths) == 1 else f"{len(train.paths):,} files"
    note(f"{files}, about {human_bytes(found.text_bytes)} of text{layout}{wrapped}")
    shards, counts = _disk_bytes(found.text_bytes)
    require_space(out, shards + counts, what="preparing this text")
    note(f"the shards will take about {human_bytes(shards)}, and counts of neighbours up to {human_bytes(counts)}")


def _disk_bytes(text_bytes: int) -> tuple[int, int]:
    """Return about how many bytes shards and counts of neighbours take."""
    return int(text_bytes * SHARD_BYTES_PER_TEXT_BYTE), most_bytes(text_bytes)


def preview(inputs: list[str], valid: list[str], out: Path, options: PrepareOptions, *, overwrite: bool) -> Result:
    """Return what preparing these inputs would do, writing nothing: settings, sizes and disk.

    Raises what preparing would raise before it writes: for inputs that cannot be read, and a place that is taken.
    """
    with tempfile.TemporaryDirectory(prefix="bertwright-dry-run-") as scratch:
        train = find_sources(inputs, valid, Path(scratch), options)[-1]
        found = survey(train.paths, options.reading, layout=train.layout, language=options.language)
    if overwrite:
        clear_output(out, ours=DATA_FILES, needed=options.files([*inputs, *valid]), dry_run=True)
    else:
        refuse_taken(out)
    given = load_tokenizer(Path(options.tokenizer)) if options.tokenizer else None
    plan: dict[str, Any] = {
        "settings": {**asdict(options), "language": found.language.code},
        "files": len(train.paths),
        "text_bytes": found.text_bytes,
        "vocab_size": given.vocab_size + (options.extend_vocab or 0)
        if given and not options.new_tokenizer
        else vocabulary_size(options.vocab_size, found.text_bytes),
        "disk_bytes": sum(_disk_bytes(found.text_bytes)),
        "free_bytes": free_space(out),
        "out": str(out),
    }
    settings = {name: value for name, value in plan["settings"].items() if value not in (None, [], False)}
    taken = "tokenizer" in settings and not options.new_tokenizer
    added = f", {options.extend_vocab:,} at most of this text" if options.extend_vocab else ""
    vocabulary = f"given{added}" if taken else f"a {settings['kind']} to train"
    facts = {
        "inputs": f"{plan['files']:,} files, about {human_bytes(plan['text_bytes'])} of text",
        "vocabulary": f"{plan['vocab_size']:,} tokens, {vocabulary}",
        "held out": ", ".join(valid) or f"{plan['settings']['held_out']:.1%} of the documents",
        "disk": f"up to {human_bytes(plan['disk_bytes'])} of {human_bytes(plan['free_bytes'])} free",
        "settings": ", ".join(f"{name} {value}" for name, value in settings.items() if name != "shard_text"),
    }
    return Result(plan, Facts(f"dry run: prepare would write {out}", facts))
