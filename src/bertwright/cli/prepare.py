"""Turns the words after `bertwright prepare` into a call of the Python function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def prepare_command(
    *inputs: str,
    out: Path,
    valid: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    tokenizer: Path | None = None,
    vocab_size: int | None = None,
    language: str | None = None,
    kind: Literal["wordpiece", "bpe", "unigram"] = "wordpiece",
    cased: Annotated[bool, Parameter(negative="")] = False,
    column: str | None = None,
    document_boundary: Literal["auto", "blank", "file", "line"] = "auto",
    skip_broken: Annotated[bool, Parameter(negative="")] = False,
    encoding: str | None = None,
    valid_fraction: float = 0.01,
    near_duplicates: float | None = None,
    repeated_paragraphs: int | None = None,
    filter: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    only_language: str | None = None,
    workers: int = 1,
    engine: Literal["local", "ray"] = "local",
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Turn raw text into data to pre-train on: vocabulary, token ids, sentence and word boundaries.

    Reads .txt, .md, .jsonl, .csv, .tsv, .parquet and .arrow, Wikipedia dumps (.xml) and saved Hugging Face datasets,
    plain or .gz, .zst or .bz2. Interrupted, the same command goes on where it stopped.

    Example: bertwright prepare books/ news.jsonl.zst --out data --vocab-size 8192
    Example: bertwright prepare crawl/ --out data --filter web --only-language en --near-duplicates 0.8

    Parameters
    ----------
    inputs
        Files, folders, globs, addresses such as s3://bucket/texts, or builtin:python-docs.
    out
        Folder to write: manifest.json, tokenizer/, train-*.arrow, valid-*.arrow, report.json.
    valid
        Files, folders or globs held out for evaluation, instead of a fraction of the inputs.
    tokenizer
        A tokenizer.json or vocab.txt, or a folder that has one, instead of training a vocabulary.
    vocab_size
        Tokens of the vocabulary to train, rounded up to a multiple of 64; chosen by the amount of text by default.
    language
        Code of the language, such as en, zh or de: decides how sentences (and Chinese words) are found. Without it
        Chinese is known by its characters, other languages by the detector of bertwright[language], and else en is
        taken.
    kind
        Kind of vocabulary to train.
    cased
        Keep capitals and accents.
    column
        Name of the text column of .jsonl, .csv, .tsv, .parquet and .arrow files, or its number without a header.
    document_boundary
        Where a document ends in .txt files: at a blank line, the end of the file, or of the line.
    skip_broken
        Leave out lines that cannot be read, and count them, instead of stopping.
    encoding
        Encoding of the files, such as gb18030 or cp1252; where not given, it is detected, with a note.
    valid_fraction
        Fraction of the documents held out for evaluation when --valid is not given; 0 for none.
    near_duplicates
        Leave out documents that share this much of their five-word sequences with an earlier one, such as 0.8.
    repeated_paragraphs
        Leave out paragraphs after they stood so many times, such as 10: licences, menus, running heads.
    filter
        Leave out poor lines and documents by the rules of "web"; limits may follow: web words=20: digits=:0.4
    only_language
        Leave out documents in other languages than this one, such as en; needs bertwright[language].
    workers
        Processes that clean and encode; 1 works in threads of one process.
    engine
        "ray" works on the cluster that RAY_ADDRESS names, or on one of this machine; needs bertwright[cluster].
    overwrite
        Replace the DATA folder that OUT is; nothing is deleted before the inputs were found to be readable.
    dry_run
        Write nothing: print the settings, how much text there is, and how much disk it will take.
    """
    from bertwright.verbs.prepare import prepare

    prepare(
        inputs, out, valid=valid or (), tokenizer=tokenizer, vocab_size=vocab_size, kind=kind, cased=cased,
        language=language, column=column, document_boundary=document_boundary, skip_broken=skip_broken,
        encoding=encoding, valid_fraction=valid_fraction, near_duplicates=near_duplicates,
        repeated_paragraphs=repeated_paragraphs,
        filter=filter or (), only_language=only_language, workers=workers, engine=engine,
        overwrite=overwrite, dry_run=dry_run,
    )  # fmt: skip
