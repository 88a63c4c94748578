"""Turns the texts of a corpus into the tokenizer of a DATA folder: the one given, or one trained on them.

Training reads the text once or twice, with time left shown, and then chooses tokens, with the seconds so far. A given
tokenizer is refused where it can learn nothing of the text.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
from tokenizers import models

from bertwright.corpus.clean import clean
from bertwright.corpus.dedup.hashes import hash_documents, valid_documents
from bertwright.corpus.filters.text_filter import TextFilter
from bertwright.corpus.given_vocabulary import MOST_COUNTED, keep_old_vocabulary, write_extended
from bertwright.corpus.journal import Journal
from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.layouts import Layout
from bertwright.corpus.readers.remote import TextFile, total_size
from bertwright.files import sha256_of
from bertwright.log import note, progress_bar
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.tokenizer.long_words import WordPieceTexts
from bertwright.tokenizer.train_vocabulary import (
    MULTIPLE,
    note_long_words,
    refuse_long_words,
    train_tokenizer,
    words_of,
)
from bertwright.tokenizer.vocabulary_map import OLD_VOCABULARY

TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt", OLD_VOCABULARY)
TRAINING_BYTES = 1 << 30
"""Text a vocabulary is trained on at most: the trainer holds a count of every different word in it."""
SIZES = ((500_000_000, 8_192), (2_000_000_000, 16_384))
"""Tokens of a vocabulary where no size is given, by the bytes of text up to which it is that ..."""
LARGEST_SIZE = 30_528
"""... and beyond: the 30,522 of BERT rounded up to a multiple of 64."""
MOST_LONG_WORDS = 0.2
"""Fraction of a corpus from which words that WordPiece makes unknown are no accident: DNA, base64."""
PLAIN_EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""


def vocabulary_size(wanted: int | None, text_bytes: int) -> int:
    """Return the size of a vocabulary to train: the one given, else what suits an amount of text; rounded up."""
    size = wanted or next((size for most, size in SIZES if text_bytes <= most), LARGEST_SIZE)
    return -(-size // MULTIPLE) * MULTIPLE


class TrainingTexts:
    """The clean documents a vocabulary is trained on, batch by batch, again each time it is gone through.

    Documents of the valid split, a fraction of all, are left out, and what does not pass the filter. Of more than
    `most_bytes` of text, a gigabyte, every k-th batch is taken. `on_read` gets the fraction read of all `passes`, 0 to
    1.
    """

    def __init__(
        self, paths: list[TextFile], options: ReadOptions, *, layout: Layout | None, text_bytes: int,
        valid_fraction: float, text_filter: TextFilter | None = None, passes: int = 1,
        on_read: Callable[[float], None] = lambda fraction: None,
    ) -> None:  # fmt: skip
        """Name what to read; nothing is read before it is gone through."""
        self.passes, self.on_read = passes, on_read
        self.most_bytes, self._text_bytes, self._source_bytes = TRAINING_BYTES, text_bytes, max(1, total_size(paths))
        self._valid_fraction, self._filter = valid_fraction, text_filter
        self._paths, self._options, self._layout = paths, options, layout
        self._begun = 0

    def __iter__(self) -> Iterator[list[str]]:
        """Yield lists of documents."""
        self._begun += 1
        batches = read_documents(self._paths, self._options, layout=self._layout)
        for batch in islice(batches, 0, None, -(-max(self._text_bytes, 1) // self.most_bytes)):
            texts = clean(batch.texts)
            if self._filter is not None:
                texts = self._filter.filter(texts)[0]
            training = ~valid_documents(hash_documents(texts), self._valid_fraction)
            documents: list[str] = texts.filter(pa.array(training)).to_pylist()
            yield documents
            fraction = min(batch.source_bytes_done / self._source_bytes, 1.0)
            self.on_read((self._begun - 1 + fraction) / self.passes)
        self.on_read(self._begun / self.passes)


@contextmanager
def shown_training(texts: TrainingTexts) -> Iterator[None]:
    """Show how far a training that goes through these texts is.

    On a terminal that is a bar with the time left, elsewhere a line every 30 seconds.
    """
    began = printed = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("reading for the vocabulary", total=1.0)

        def on_read(fraction: float) -> None:
            nonlocal printed
            now = time.perf_counter()
            if fraction < 1:
                bar.update(task, completed=fraction)
            else:
                bar.update(task, description="choosing tokens", total=None)
            if not sys.stderr.isatty() and now - printed > PLAIN_EVERY:
                printed, left = now, (now - began) * (1 / max(fraction, 1e-9) - 1) / 60
                done = f"{fraction:.0%} of the text read, {left:.1f} min left"
                note(f"vocabulary: {done if fraction < 1 else 'all text read, choosing tokens'}")

        texts.on_read = on_read
        yield
    note(f"vocabulary trained: {time.perf_counter() - began:.0f} s")


@dataclass(frozen=True)
class VocabularyPlan:
    """How a DATA folder comes to its tokenizer.

    given      the one to take; None trains one
    model      where it was found, in words of the call
    sample     documents of the corpus, for proofs
    extend     pieces of the text to add to it, at most
    anew       train one all the same, and remember the given one
    kind, size, lowercase  of one that is trained
    """

    given: Tokenizer | None
    model: str
    sample: Sequence[str]
    extend: int | None
    anew: bool
    kind: str
    size: int
    lowercase: bool


def make_tokenizer(out: Path, plan: VocabularyPlan, texts: TrainingTexts, journal: Journal) -> Tokenizer:
    """Return the tokenizer of DATA: the one already there, or what the plan says, made of `texts`; journal it.

    Raises TokenizerError where no vocabulary can be trained, or the given one not extended.
    """
    folder, given = out / "tokenizer", plan.given
    if journal.tokenizer:
        return load_tokenizer(folder)
    journal.save(out)
    kind = plan.kind if given is None or plan.anew else "given"
    if given is not None and not plan.anew:
        _copy_tokenizer(given, folder)
        if plan.extend:
            kind = "extended"
            _extend(given, texts, folder, plan, journal)
        tokenizer = load_tokenizer(folder)
    else:
        tokenizer = _train(texts, folder, plan, journal)
        if given is not None:
            keep_old_vocabulary(given, tokenizer, model=plan.model)
    journal.tokenizer = {
        "file": "tokenizer/tokenizer.json",
        "sha256": sha256_of(tokenizer.path),
        "kind": kind,
        "vocab_size": tokenizer.vocab_size,
        "special_ids": asdict(tokenizer.special),
    }
    journal.save(out)
    return tokenizer


def _extend(given: Tokenizer, texts: TrainingTexts, folder: Path, plan: VocabularyPlan, journal: Journal) -> None:
    """Add pieces of the texts to the tokenizer in `folder`."""
    note(f"adding up to {plan.extend:,} pieces of this text to the {given.vocab_size:,} tokens given")
    texts.most_bytes = MOST_COUNTED
    with journal.timed("vocabulary"), shown_training(texts):
        write_extended(given, texts, folder, most=plan.extend or 0, model=plan.model, sample=plan.sample)


def _train(texts: TrainingTexts, folder: Path, plan: VocabularyPlan, journal: Journal) -> Tokenizer:
    """Train a vocabulary on the texts."""
    note(f"training a {plan.kind} vocabulary of {plan.size:,} tokens")
    texts.passes = 2 if plan.kind == "wordpiece" else 1
    with journal.timed("vocabulary"), shown_training(texts):
        return train_tokenizer(
            texts, folder=folder, vocab_size=plan.size, kind=plan.kind, lowercase=plan.lowercase,
            most_long_words=MOST_LONG_WORDS,
        )  # fmt: skip


def _copy_tokenizer(given: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    given.write(folder)
    for name in TOKENIZER_FILES:
        if given.path.with_name(name).is_file():
            shutil.copyfile(given.path.with_name(name), folder / name)


def refuse_unknown_text(given: Tokenizer, sample: Sequence[str], text_filter: TextFilter | None) -> None:
    """Raise TokenizerError where a given WordPiece makes too much of a corpus unknown, by a sample of clean documents.

    Documents that do not pass the filter are not counted.
    """
    model = given.backend.model
    if isinstance(model, models.WordPiece):
        kept = sample if text_filter is None else text_filter.filter(pa.array(sample, pa.string()))[0].to_pylist()
        texts = WordPieceTexts(kept, words_of(given.backend), longest=model.max_input_chars_per_word)
        for _ in texts:
            pass
        note_long_words(texts, "unknown to the tokenizer given, by a sample")
        refuse_long_words(
            texts, MOST_LONG_WORDS, instead="a tokenizer of another kind, or no --tokenizer and --kind bpe"
        )
