"""Turns raw text into a DATA folder: finds the files, makes or takes a tokenizer, writes the shards, reports figures.

    bertwright prepare TEXT... --out DATA

DATA is complete as soon as it holds manifest.json, which is written last. Interrupted before, the same command goes
on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from bertwright.corpus.data_folder import DATA_FILES, finish, write_counts, write_shards
from bertwright.corpus.dedup.dedup_state import DedupState
from bertwright.corpus.executors.work import TextWork, WorkPlan
from bertwright.corpus.journal import Journal, open_journal
from bertwright.corpus.pipeline import SHARD_TEXT, ShardPipeline
from bertwright.corpus.report import facts_of, manifest_of, note_unknown, report_of
from bertwright.corpus.survey import survey
from bertwright.corpus.vocabulary import TrainingTexts, make_tokenizer, refuse_unknown_text, vocabulary_size
from bertwright.errors import CorpusError, UsageError
from bertwright.files import clear_output, locked
from bertwright.flags import with_flags
from bertwright.log import print_facts
from bertwright.stopping import interrupted
from bertwright.tokenizer.load import load_tokenizer
from bertwright.types import listed
from bertwright.verbs.calls.prepare_inputs import PrepareOptions, announce, find_sources, preview, print_preview


@with_flags("prepare")
def prepare(
    inputs: str | Path | Sequence[str | Path], out: Path | str, *, valid: str | Path | Sequence[str | Path] = (),
    tokenizer: Path | str | None = None, vocab_size: int | None = None, kind: str = "wordpiece", cased: bool = False,
    language: str | None = None, column: str | None = None,
    document_boundary: Literal["auto", "blank", "file", "line"] = "auto", skip_broken: bool = False,
    encoding: str | None = None, valid_fraction: float = 0.01, near_duplicates: float | None = None,
    repeated_paragraphs: int | None = None, filter: Sequence[str] = (), only_language: str | None = None,
    workers: int = 1, engine: Literal["local", "ray"] = "local", shard_text: int = SHARD_TEXT,
    lowercase: bool | None = None, overwrite: bool = False, dry_run: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Prepare text for pre-training in the folder `out`; return the report, which is also saved there and printed.

    inputs       files, folders, globs, addresses such as "s3://bucket/texts", or "builtin:python-docs"
    valid        the same for the held-out split; without it, a fraction `valid_fraction` of the documents is taken by
                 the hash of their text (at least one document; 0 for none)
    tokenizer    a tokenizer.json or its folder; without it a vocabulary is trained: `kind` "wordpiece", "bpe" or
                 "unigram", of `vocab_size` tokens (by default 8,192 for up to 500 MB of text, 16,384 for up to 2 GB,
                 30,528 above), with capitals and accents where `cased`
                 (`lowercase` is the opposite of that, the name it had before)
    language     code of the language, such as "en" or "zh"; without it Chinese is known by its characters, others by
                 the detector where that is installed, and what is left is "en"
    document_boundary
                 where documents end in .txt files; "auto" finds it from a sample
    encoding     how characters are written, such as "gb18030"; detected, with a note, where a file is not UTF-8
    near_duplicates
                 leave out documents that share this much of their five-word sequences with an earlier one (Jaccard,
                 0.5 to below 1)
    repeated_paragraphs
                 leave out paragraphs after they stood so many times in documents before
    filter       leave out poor lines and documents by the rules of "web", with limits of one's own after it, such as
                 ["web", "words=20:", "digits=:0.4"]
    only_language
                 leave out documents in other languages than this one
    workers      processes that clean and encode; 1 works in threads of this one. The bytes of DATA are the same
    engine       "ray" works on the cluster that RAY_ADDRESS names, or one of this machine; again the same bytes

    overwrite    delete the DATA folder that `out` is, once the inputs were found to be readable
    dry_run      write nothing: print, and return, the settings, what was found and how much disk it will take

    Raises CorpusError, TokenizerError, OutputExistsError, BusyError or DiskSpaceError, each saying what to do.

    >>> prepare(["books/"], Path("data"), vocab_size=8192)["tokens"]  # reads your texts  # doctest: +SKIP
    {'train': 30116725, 'valid': 298117}
    """
    started, out = perf_counter(), Path(out)
    options = PrepareOptions(
        language, kind, vocab_size, not cased if lowercase is None else lowercase,
        str(tokenizer) if tokenizer else None, column, document_boundary, skip_broken, encoding, valid_fraction,
        near_duplicates, repeated_paragraphs, listed(filter, what="filter"), only_language, shard_text,
    )  # fmt: skip
    options.check()
    if engine not in ("local", "ray"):
        raise UsageError(f"--engine {engine} is not known; choose local or ray")
    if workers < 1:
        raise UsageError(f"--workers {workers} leaves nobody to work; give 1 or more")
    named, named_valid = listed(inputs, what="inputs"), listed(valid, what="valid")
    if dry_run or overwrite:
        plan = preview(named, named_valid, out, options, overwrite=overwrite)
        if dry_run:
            print_preview(plan, named_valid)
            return plan
    try:
        with locked(out):
            if overwrite:
                clear_output(out, ours=DATA_FILES, needed=options.files([*named, *named_valid]))
            journal = open_journal(out, {"inputs": named, "valid": named_valid, **asdict(options)})
            report = _prepare(named, named_valid, out, options, journal, started, workers, engine)
    except KeyboardInterrupt as stop:
        raise interrupted(stop, f"stopped; the same command goes on from the last whole shard in {out}") from None
    print_facts(f"prepared {out}", facts_of(report))
    note_unknown(report)
    return report


def _prepare(
    inputs: list[str], valid: list[str], out: Path, options: PrepareOptions, journal: Journal, started: float,
    workers: int, engine: str,
) -> dict[str, Any]:  # fmt: skip
    """Walk from the names of files to the manifest."""
    sources, reading = find_sources(inputs, valid, out, options), options.reading
    train = sources[-1]
    given = load_tokenizer(Path(options.tokenizer)) if options.tokenizer else None
    found = survey(train.paths, reading, layout=train.layout, language=journal.settings["language"])
    announce(train, found, out)
    journal.choose_language(found.language)
    options = replace(options, language=found.language.code)
    text_filter = options.text_filter
    if given is not None:
        refuse_unknown_text(given, found.sample, text_filter)
    texts = TrainingTexts(
        train.paths, reading, layout=train.layout, text_bytes=found.text_bytes, valid_fraction=train.valid_fraction,
        text_filter=text_filter,
    )  # fmt: skip
    size = vocabulary_size(options.vocab_size, found.text_bytes)
    tokenizer = make_tokenizer(out, given, texts, journal, kind=options.kind, size=size, lowercase=options.lowercase)
    near, repeated = options.near_duplicates, options.repeated_paragraphs
    work = TextWork(WorkPlan(out / "tokenizer", found.language.code, found.newline, found.sample, near, text_filter))
    seen = DedupState(out, journal.memory, near_duplicates=near, repeated_paragraphs=repeated, newline=found.newline)
    pipeline = ShardPipeline(
        out, journal, sources, reading, seen=seen, vocab_size=tokenizer.vocab_size, shard_text=options.shard_text
    )
    write_shards(pipeline, work, sources, journal, workers=workers, engine=engine)
    if not journal.total("train", "tokens"):
        raise CorpusError(f"no text to train on is left in {', '.join(inputs)}; give files with words in them")
    neighbours = write_counts(out, journal)
    shown = {**asdict(options), "newline": found.newline, "layout": train.layout, "valid": valid}
    manifest = manifest_of(journal, inputs=inputs, options=shown, neighbours=neighbours)
    encoder, seconds = work.encoder, perf_counter() - started
    report = report_of(
        journal, manifest, encoder=encoder.statement, word_starts=encoder.word_statement, seconds=seconds
    )
    finish(out, journal, manifest, report)
    return report
