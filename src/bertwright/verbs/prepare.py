"""Turns raw text into a DATA folder: finds the files, makes or takes a tokenizer, writes the shards, reports figures.

    bertwright prepare TEXT... --out DATA

DATA is complete as soon as it holds manifest.json, which is written last. Interrupted before, the same command goes
on where it stopped and ends with the same bytes. The work is in verbs/calls/prepare_data.py, which is imported by a
call: --help does not wait for readers and arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bertwright.flags import with_flags
from bertwright.result import Result

SHARD_TEXT = 1 << 26
"""Bytes of text a shard holds: some 15 million tokens of English, 20 million of Chinese."""


@with_flags("prepare")
def prepare(
    inputs: str | Path | Sequence[str | Path],
    out: Path | str,
    *,
    valid: str | Path | Sequence[str | Path] = (),
    tokenizer: Path | str | None = None,
    extend_vocab: int | None = None,
    new_tokenizer: bool = False,
    vocab_size: int | None = None,
    language: str | None = None,
    kind: Literal["wordpiece", "bpe", "unigram"] = "wordpiece",
    cased: bool = False,
    column: str | None = None,
    document_boundary: Literal["auto", "blank", "file", "line"] = "auto",
    skip_broken: bool = False,
    encoding: str | None = None,
    valid_fraction: float = 0.01,
    near_duplicates: float | None = None,
    repeated_paragraphs: int | None = None,
    filter: str | Sequence[str] = (),
    only_language: str | None = None,
    workers: int = 1,
    engine: Literal["local", "ray"] = "local",
    overwrite: bool = False,
    dry_run: bool = False,
    shard_text: int = SHARD_TEXT,
    lowercase: bool | None = None,
) -> Result:
    """Turn raw text into data to pre-train on: vocabulary, token ids, sentence and word boundaries.

    Reads .txt, .md, .jsonl, .csv, .tsv, .parquet and .arrow, Wikipedia dumps (.xml) and saved Hugging Face datasets,
    plain or .gz, .zst or .bz2. Interrupted, the same call goes on where it stopped.

    Parameters
    ----------
    inputs
        Files, folders, globs, addresses such as s3://bucket/texts, or builtin:python-docs.
    out
        Folder to write: manifest.json, tokenizer/, train-*.arrow, valid-*.arrow, report.json (what is returned).
    valid
        Files, folders or globs held out for evaluation, instead of a fraction of the inputs.
    tokenizer
        A tokenizer.json or vocab.txt, or a folder that has one, such as a model to go on from, instead of training a
        vocabulary.
    extend_vocab
        Add so many pieces of this text to that tokenizer, at most: those that save most tokens. Other text keeps its
        tokens.
    new_tokenizer
        Train a vocabulary all the same, and remember that tokenizer, so that a model of it can go on.
    vocab_size
        Tokens of the vocabulary to train, rounded up to a multiple of 64; where not given 8,192 for up to 500 MB of
        text, 16,384 for up to 2 GB, 30,528 above.
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
        Where a document ends in .txt files: at a blank line, the end of the file, or of the line; auto finds it out
        from a sample.
    skip_broken
        Leave out lines that cannot be read, and count them, instead of stopping.
    encoding
        Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is detected and
        reported.
    valid_fraction
        Fraction of the documents held out for evaluation where no files are given for it, by a hash of their text; 0
        for none, else at least one document.
    near_duplicates
        Leave out documents that share this much of their five-word sequences with an earlier one (Jaccard, 0.5 to
        below 1), such as 0.8.
    repeated_paragraphs
        Leave out paragraphs after they stood so many times, such as 10: licences, menus, running heads.
    filter
        Leave out poor lines and documents by the rules of "web"; limits may follow: web words=20: digits=:0.4
    only_language
        Leave out documents in other languages than this one, such as en; needs bertwright[language].
    workers
        Processes that clean and encode; 1 works in threads of one process. The bytes of DATA are the same.
    engine
        "ray" works on the cluster that RAY_ADDRESS names, or on one of this machine; needs bertwright[cluster]. Again
        the same bytes.
    overwrite
        Replace the DATA folder that OUT is; nothing is deleted before the inputs were found to be readable.
    dry_run
        Write nothing: show the settings, how much text there is, and how much disk it will take.
    shard_text
        Bytes of text in a shard, about.
    lowercase
        The opposite of cased, under the name it had before.

    Raises
    ------
    CorpusError
        Where text cannot be read; TokenizerError, OutputExistsError, BusyError or DiskSpaceError, each saying what to
        do.

    Examples
    --------
    >>> prepare(["books/"], "data", vocab_size=8192)["tokens"]  # reads your texts  # doctest: +SKIP
    {'train': 30116725, 'valid': 298117}
    """
    from bertwright.types import listed
    from bertwright.verbs.calls.prepare_data import prepare_data
    from bertwright.verbs.calls.prepare_inputs import PrepareOptions

    options = PrepareOptions(
        language, kind, vocab_size, not cased if lowercase is None else lowercase,
        str(tokenizer) if tokenizer else None, column, document_boundary, skip_broken, encoding, valid_fraction,
        near_duplicates, repeated_paragraphs, listed(filter, what="filter"), only_language, shard_text, extend_vocab,
        new_tokenizer,
    )  # fmt: skip
    return prepare_data(
        inputs, valid, Path(out), options, workers=workers, engine=engine, overwrite=overwrite, dry_run=dry_run
    )
