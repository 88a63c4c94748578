"""Turns raw text and checked options into a DATA folder: the work of `prepare`, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from bertwright.corpus.data_folder import DATA_FILES, finish, write_counts, write_shards
from bertwright.corpus.dedup.dedup_state import DedupState
from bertwright.corpus.executors.work import TextWork, WorkPlan
from bertwright.corpus.given_vocabulary import compare_vocabularies
from bertwright.corpus.journal import Journal, open_journal
from bertwright.corpus.pipeline import ShardPipeline
from bertwright.corpus.report import facts_of, manifest_of, note_unknown, report_of
from bertwright.corpus.survey import survey
from bertwright.corpus.vocabulary import (
    TrainingTexts,
    VocabularyPlan,
    make_tokenizer,
    refuse_unknown_text,
    vocabulary_size,
)
from bertwright.errors import CorpusError, OutputExistsError, TokenizerError, UsageError
from bertwright.files import clear_output, locked
from bertwright.log import Facts
from bertwright.result import Result
from bertwright.stopping import interrupted
from bertwright.tokenizer.load import load_tokenizer
from bertwright.types import listed
from bertwright.verbs.calls.prepare_inputs import PrepareOptions, announce, find_sources, preview


def prepare_data(
    inputs: str | Path | Sequence[str | Path], valid: str | Path | Sequence[str | Path], out: Path,
    options: PrepareOptions, *, workers: int, engine: str, overwrite: bool, dry_run: bool,
) -> Result:  # fmt: skip
    """Check the call, write DATA, and return what report.json holds; see `prepare`."""
    started = perf_counter()
    options.check()
    if engine not in ("local", "ray"):
        raise UsageError(f"--engine {engine} is not known; choose local or ray")
    if workers < 1:
        raise UsageError(f"--workers {workers} leaves nobody to work; give 1 or more")
    named, named_valid = listed(inputs, what="inputs"), listed(valid, what="valid")
    if dry_run or overwrite:
        plan = preview(named, named_valid, out, options, overwrite=overwrite)
        if dry_run:
            return plan
    try:
        with locked(out):
            if overwrite:
                clear_output(out, ours=DATA_FILES, needed=options.files([*named, *named_valid]))
            journal = open_journal(out, {"inputs": named, "valid": named_valid, **asdict(options)})
            try:
                report = _prepare(named, named_valid, out, options, journal, started, workers, engine)
            except TokenizerError:  # other settings are asked for, which what is there would stand in the way of
                if not journal.tokenizer:
                    with suppress(OutputExistsError):
                        clear_output(out, ours=DATA_FILES, needed=options.files([*named, *named_valid]))
                raise
    except KeyboardInterrupt as stop:
        raise interrupted(stop, f"stopped; the same command goes on from the last whole shard in {out}") from None
    note_unknown(report)
    return Result(report, Facts(f"prepared {out}", facts_of(report)))


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
    if given is not None and not options.new_tokenizer:
        refuse_unknown_text(given, found.sample, text_filter)
    texts = TrainingTexts(
        train.paths, reading, layout=train.layout, text_bytes=found.text_bytes, valid_fraction=train.valid_fraction,
        text_filter=text_filter,
    )  # fmt: skip
    vocabulary = VocabularyPlan(
        given, options.tokenizer or "", found.sample, options.extend_vocab, options.new_tokenizer, options.kind,
        vocabulary_size(options.vocab_size, found.text_bytes), options.lowercase,
    )  # fmt: skip
    tokenizer = make_tokenizer(out, vocabulary, texts, journal)
    near, repeated = options.near_duplicates, options.repeated_paragraphs
    work = TextWork(WorkPlan(out / "tokenizer", found.language.code, found.newline, found.sample, near, text_filter))
    seen = DedupState(out, journal.memory, near_duplicates=near, repeated_paragraphs=repeated, newline=found.newline)
    pipeline = ShardPipeline(
        out, journal, sources, reading, seen=seen, vocab_size=tokenizer.vocab_size, shard_text=options.shard_text
    )
    write_shards(pipeline, work, sources, journal, workers=workers, engine=engine)
    if not journal.total("train", "tokens"):
        raise CorpusError(f"no text to train on is left in {', '.join(inputs)}; give files with words in them")
    neighbours, beside = write_counts(out, journal), None
    if given is not None and (options.extend_vocab or options.new_tokenizer):
        beside = compare_vocabularies(
            given, tokenizer, found.sample, language=found.language.code, extended=not options.new_tokenizer
        )
    shown = {**asdict(options), "newline": found.newline, "layout": train.layout, "valid": valid}
    manifest = manifest_of(journal, inputs=inputs, options=shown, neighbours=neighbours)
    encoder, seconds = work.encoder, perf_counter() - started
    report = report_of(
        journal, manifest, encoder=encoder.statement, word_starts=encoder.word_statement, seconds=seconds,
        beside=beside,
    )  # fmt: skip
    finish(out, journal, manifest, report)
    return report
