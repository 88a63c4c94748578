"""Turns raw text into a DATA folder: finds the files, makes or takes a tokenizer, writes the shards, tells the figures.

    bertwright prepare TEXT... --out DATA

DATA is complete as soon as it holds manifest.json, which is written last. Interrupted before, the same command goes
on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from bertwright.corpus.cooccurrence import count_prepared
from bertwright.corpus.dedup.dedup_state import SEEN_FOLDER, DedupState
from bertwright.corpus.encode import UNSPACED
from bertwright.corpus.executors.on_ray import ray_cluster
from bertwright.corpus.executors.processes import Workers, processes, threads
from bertwright.corpus.executors.work import TextWork, WorkPlan
from bertwright.corpus.filters.counts import DropCounts
from bertwright.corpus.filters.language_choice import choose_language
from bertwright.corpus.filters.screen import Screen, rules_of
from bertwright.corpus.journal import JOURNAL, Journal, open_journal
from bertwright.corpus.pipeline import SHARD_TEXT, ShardPipeline, Source
from bertwright.corpus.readers.documents import source_bytes
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.report import facts_of, fingerprint_in, manifest_of, report_of
from bertwright.corpus.survey import Survey, TrainingTexts, survey
from bertwright.corpus.vocabulary_texts import MOST_LONG_WORDS, refuse_unknown_text, shown_training
from bertwright.errors import CorpusError, UsageError
from bertwright.files import locked, remove, sha256_of, write_json
from bertwright.flags import with_flags
from bertwright.log import note, print_facts, progress_bar
from bertwright.stopping import interrupted
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.tokenizer.train_vocabulary import KINDS, MULTIPLE, SMALLEST, train_tokenizer
from bertwright.types import listed
from bertwright.verbs.calls.prepare_inputs import (
    BUILTIN_FOLDER,
    PrepareOptions,
    announce,
    find_sources,
    preview,
    require_replaceable,
    vocabulary_for,
)

TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
MUCH_UNKNOWN = 0.05
"""Share of unknown tokens that is warned of."""


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
    valid        the same for the held-out split; without it, a share `valid_fraction` of the documents is taken by the
                 hash of their text (at least one document; 0 for none)
    tokenizer    a tokenizer.json or its folder; without it a vocabulary is trained: `kind` "wordpiece", "bpe" or
                 "unigram", of `vocab_size` tokens (by default 8,192 for up to 500 MB of text, 16,384 for up to 2 GB,
                 30,528 above), with capitals and accents where `cased`
                 (`lowercase` is the opposite of that, the name it had before)
    language     code of the language, such as "en" or "zh"; without it Chinese is known by its characters, others by
                 the detector where that is installed, and what is left is "en"
    document_boundary
                 where documents end in .txt files; "auto" tells it from a sample
    encoding     how characters are written, such as "gb18030"; detected, and said, where a file is not UTF-8
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
    _check(options)
    _screen(options)
    if engine not in ("local", "ray"):
        raise UsageError(f"--engine {engine} is not known; choose local or ray")
    if workers < 1:
        raise UsageError(f"--workers {workers} leaves nobody to work; give 1 or more")
    named, named_valid = listed(inputs, what="inputs"), listed(valid, what="valid")
    if dry_run or overwrite:
        plan = preview(named, named_valid, out, options, overwrite=overwrite, told=dry_run)
        if dry_run:
            return plan
    try:
        with locked(out):
            if overwrite:
                require_replaceable(out, named, named_valid, options, overwrite=True, clear=True)
            journal = open_journal(out, {"inputs": named, "valid": named_valid, **asdict(options)})
            report = _prepare(named, named_valid, out, options, journal, started, workers, engine)
    except KeyboardInterrupt as stop:
        raise interrupted(stop, f"stopped; the same command goes on from the last whole shard in {out}") from None
    print_facts(f"prepared {out}", facts_of(report))
    if report["unknown_rate"] > MUCH_UNKNOWN:
        note(
            f"warning: {report['unknown_rate']:.1%} of the tokens are unknown, and a model learns nothing of them: "
            "prepare again with a larger --vocab-size, or another --tokenizer"
        )
    return report


def _prepare(
    inputs: list[str], valid: list[str], out: Path, options: PrepareOptions, journal: Journal, started: float,
    workers: int, engine: str,
) -> dict[str, Any]:  # fmt: skip
    """Walk from the names of files to the manifest."""
    reading = ReadOptions(options.column, options.documents, options.skip_broken, options.encoding)
    sources = find_sources(inputs, valid, out, options, reading)
    train = sources[-1]
    given = load_tokenizer(Path(options.tokenizer)) if options.tokenizer else None
    look = survey(train.paths, reading, layout=train.layout)
    announce(train, look, out)
    options = replace(options, language=_language_of(train, reading, journal))
    screen = _screen(options)
    if given is not None:
        refuse_unknown_text(given, look.sample, screen)
    vocabulary = _tokenizer_for(out, given, train, look, options, reading, journal, screen)
    plan = WorkPlan(
        out / "tokenizer", str(options.language), look.newline, look.sample, options.near_duplicates, screen
    )
    work = TextWork(plan)
    pipeline = ShardPipeline(
        out, journal, sources, reading, vocab_size=vocabulary.vocab_size, shard_text=options.shard_text,
        memory=DedupState(
            out, journal.memory, near_duplicates=options.near_duplicates,
            repeated_paragraphs=options.repeated_paragraphs, newline=look.newline,
        ),
    )  # fmt: skip
    began = perf_counter()
    with _workers(work, workers, engine) as crew:
        _run(pipeline, crew, sources)
    journal.spent("shards", perf_counter() - began)
    if not journal.total("train", "tokens"):
        raise CorpusError(f"no text to train on is left in {', '.join(inputs)}; give files with words in them")
    neighbours = _count_neighbours(out, journal)
    shown = {**asdict(options), "newline": look.newline, "layout": train.layout, "valid": valid}
    manifest = manifest_of(journal, inputs=inputs, options=shown, neighbours=neighbours)
    report = report_of(
        journal, manifest, encoder=work.encoder.statement, word_starts=work.encoder.word_statement,
        seconds=perf_counter() - started,
    )  # fmt: skip
    _finish(out, journal, manifest, report)
    return report


def _workers(work: TextWork, count: int, engine: str) -> AbstractContextManager[Workers]:
    """Return whoever works."""
    if engine == "ray":
        return ray_cluster(work.plan)
    return threads(work) if count == 1 else processes(work.plan, count)


def _check(options: PrepareOptions) -> None:
    if options.kind not in KINDS:
        raise UsageError(f"--kind {options.kind} is not known; choose one of {', '.join(KINDS)}")
    if not 0 <= options.held_out < 1:
        raise UsageError(
            f"--valid-fraction {options.held_out} is no share of the documents; give a number from 0 to below 1"
        )
    if options.tokenizer and options.vocab_size:
        raise UsageError("--tokenizer and --vocab-size cannot both be given; leave one out")
    if options.near_duplicates is not None and not 0.5 <= options.near_duplicates < 1:
        raise UsageError(
            f"--near-duplicates {options.near_duplicates} is no similarity to look for; give one from 0.5 to below 1"
        )
    if options.repeated_paragraphs is not None and options.repeated_paragraphs < 1:
        raise UsageError(f"--repeated-paragraphs {options.repeated_paragraphs} would leave nothing; give 1 or more")
    if options.vocab_size is not None and options.vocab_size < SMALLEST:
        raise UsageError(f"--vocab-size {options.vocab_size} is too small; give {SMALLEST} or more")


def _screen(options: PrepareOptions) -> Screen | None:
    """Return what documents must be to stay; raises UsageError for rules that are not known."""
    if not options.filter and options.only_language is None:
        return None
    rules = rules_of(options.filter) if options.filter else {}
    screen = Screen(rules, options.only_language, spaced=options.language not in UNSPACED)
    screen.screen(pa.array(["a document"]), DropCounts())  # tells now that a package is missing
    return screen


def _language_of(train: Source, reading: ReadOptions, journal: Journal) -> str:
    """Return the language given, or that of the preparation gone on with, or the one found in the text, and say it."""
    if journal.settings["language"] is None:
        choice = choose_language(train.paths, reading, layout=train.layout)
        journal.settings["language"], journal.language_by = choice.code, choice.grounds
        note(f"language {choice.statement} (--language to say otherwise)")
        if choice.advice:
            note(choice.advice)
    return str(journal.settings["language"])


def _tokenizer_for(
    out: Path, given: Tokenizer | None, train: Source, look: Survey, options: PrepareOptions, reading: ReadOptions,
    journal: Journal, screen: Screen | None,
) -> Tokenizer:  # fmt: skip
    """Return the tokenizer of DATA: the one already there, the given one, or one trained now."""
    folder = out / "tokenizer"
    if journal.tokenizer:
        return load_tokenizer(folder)
    journal.save(out)
    if given is not None:
        _copy_tokenizer(given, folder)
        tokenizer, kind = load_tokenizer(folder), "given"
    else:
        began = perf_counter()
        size = options.vocab_size or vocabulary_for(look.text_bytes)
        note(f"training a {options.kind} vocabulary of {-(-size // MULTIPLE) * MULTIPLE:,} tokens")
        training = TrainingTexts(
            train.paths, reading, layout=train.layout, text_bytes=look.text_bytes, share=train.held_out, screen=screen
        )
        with shown_training(training, passes=2 if options.kind == "wordpiece" else 1) as texts:
            tokenizer = train_tokenizer(
                texts, folder=folder, vocab_size=size, kind=options.kind, lowercase=options.lowercase,
                most_long_words=MOST_LONG_WORDS,
            )  # fmt: skip
        kind = options.kind
        journal.spent("vocabulary", perf_counter() - began)
    journal.tokenizer = {
        "file": "tokenizer/tokenizer.json",
        "sha256": sha256_of(tokenizer.path),
        "kind": kind,
        "vocab_size": tokenizer.vocab_size,
        "special_ids": asdict(tokenizer.special),
    }
    journal.save(out)
    return tokenizer


def _copy_tokenizer(given: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    given.write(folder)
    for name in TOKENIZER_FILES:
        if given.path.with_name(name).is_file():
            shutil.copyfile(given.path.with_name(name), folder / name)


def _run(pipeline: ShardPipeline, workers: Workers, sources: list[Source]) -> None:
    sizes = [source_bytes(source.paths) for source in sources]
    with progress_bar() as bar:
        task = bar.add_task("preparing", total=sum(sizes))
        pipeline.run(workers, lambda source, done: bar.update(task, completed=sum(sizes[:source]) + done))


def _count_neighbours(out: Path, journal: Journal) -> dict[str, Any]:
    """Write the table of neighbour counts, and return what the manifest says of it."""
    began = perf_counter()
    files = [str(shard["file"]) for shard in journal.shards["train"]]
    frequencies = np.array(journal.frequencies, dtype=np.int64)
    entry = count_prepared(out, files, frequencies, fingerprint=fingerprint_in(journal))
    journal.spent("neighbours", perf_counter() - began)
    return entry


def _finish(out: Path, journal: Journal, manifest: dict[str, Any], report: dict[str, Any]) -> None:
    """Write the report, remove what only the work needed, and write the manifest, which makes DATA whole.

    In this order a kill at any moment leaves either a preparation to go on with, or nothing but its journal too much.
    """
    write_json(out / "report.json", report)
    journal.memory = {}
    journal.save(out)
    for name in (SEEN_FOLDER, BUILTIN_FOLDER):
        remove(out / name)
    write_json(out / "manifest.json", manifest)
    remove(out / JOURNAL)
