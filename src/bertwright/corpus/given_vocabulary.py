"""Turns a given tokenizer and the texts of a corpus into one that suits them: with pieces added, or trained anew.

A model that was trained with the given tokenizer can go on with the result: where its tokens come from is kept beside
it. How well each of both suits the text is measured on a sample, and what became of other text is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bertwright.corpus.encode import UNSPACED
from bertwright.errors import TokenizerError
from bertwright.files import write_text
from bertwright.log import note
from bertwright.tokenizer.extend_vocabulary import extend_vocabulary
from bertwright.tokenizer.load import FILE, Tokenizer, load_tokenizer
from bertwright.tokenizer.train_vocabulary import words_of
from bertwright.tokenizer.vocab_txt import VOCAB
from bertwright.tokenizer.vocabulary_map import map_of_extension, map_of_new, write_vocabulary_map

MOST_COUNTED = 1 << 27
"""Bytes of text that pieces are counted in; of more, every k-th batch is taken."""
LONGEST_CHUNK = 64
"""Characters between blanks that are remembered whole while words are counted; longer ones are cut at once."""
LONGEST_WORD = 100
"""Characters of a word that pieces may come from."""
SAMPLE_BYTES = 2_000_000
"""Text that tokenizers are compared on."""
GENERAL_BYTES = 150_000
"""Text of other kinds in which changed tokens are counted: some 40,000 of them."""


@dataclass(frozen=True)
class Fertility:
    """How a tokenizer cuts a sample of text.

    tokens_per_word is of words between blanks, in scripts without blanks of characters.
    """

    vocab_size: int
    tokens: int
    tokens_per_word: float
    bytes_per_token: float
    unknown_rate: float


def count_words(batches: Iterable[Sequence[str]], tokenizer: Tokenizer) -> Counter[str]:
    """Return how often each word of a text occurs, as the tokenizer normalises and cuts it, a blank before each run.

    Runs between blanks are counted first, and each different one is cut once.
    """
    cut, chunks, words = words_of(tokenizer.backend), Counter[str](), Counter[str]()

    def add(chunk: str, count: int) -> None:
        for word in cut(f" {chunk}"):
            if len(word) <= LONGEST_WORD:
                words[word] += count

    for documents in batches:
        for document in documents:
            runs = document.split()
            chunks.update(run for run in runs if len(run) <= LONGEST_CHUNK)
            for run in runs:
                if len(run) > LONGEST_CHUNK:
                    add(run, 1)
    for chunk, count in chunks.items():
        add(chunk, count)
    return words


def write_extended(
    given: Tokenizer, batches: Iterable[Sequence[str]], folder: Path, *, most: int, model: str, sample: Sequence[str]
) -> None:
    """Add up to `most` pieces of a text to the tokenizer in `folder`, a copy of the `given` one; keep the map.

    That nothing else changes is proved on a `sample` of the text and on general text. Raises TokenizerError where the
    text has no piece worth adding, and for a tokenizer that cannot be extended.
    """
    text, pieces = extend_vocabulary(given, count_words(batches, given), most)
    if not pieces:
        raise TokenizerError(
            f"no piece of this text would save tokens of {given.path}; leave out --extend-vocab, or give "
            "--new-tokenizer"
        )
    if len(pieces) < most:
        note(f"only {len(pieces):,} pieces of this text are worth a token of their own, not {most:,}: all are added")
    write_text(folder / FILE, text)
    extended, vocab = load_tokenizer(folder), folder / VOCAB
    changed_tokens(given, extended, [*_bounded(sample, SAMPLE_BYTES), *general_texts()])
    if vocab.is_file():
        write_text(vocab, "".join(f"{token or f'[unused-{place}]'}\n" for place, token in enumerate(extended.tokens)))
    write_vocabulary_map(
        folder, map_of_extension(given, [piece.old_ids for piece in pieces]), how="extended", model=model
    )


def keep_old_vocabulary(given: Tokenizer, new: Tokenizer, *, model: str) -> None:
    """Keep beside a tokenizer trained anew where its tokens come from among those of the `given` one."""
    write_vocabulary_map(new.path.parent, map_of_new(given, new), how="new", model=model)


def compare_vocabularies(
    old: Tokenizer, new: Tokenizer, sample: Sequence[str], *, language: str, extended: bool
) -> dict[str, Any]:
    """Return how both cut a sample of the corpus, and what one that is `extended` changes in other text.

    "general" is text of Python's language reference, English prose that every Python has: of `tokens` that the old
    tokenizer makes of it, `changed` are others with the new one. None where this Python is without it.
    """
    texts = _bounded(sample, SAMPLE_BYTES)
    spaced = language not in UNSPACED
    return {
        "old": asdict(fertility(old, texts, spaced=spaced)),
        "new": asdict(fertility(new, texts, spaced=spaced)),
        "general": changed_tokens(old, new, general_texts()) if extended else None,
    }


def fertility(tokenizer: Tokenizer, texts: Sequence[str], *, spaced: bool) -> Fertility:
    """Return how a tokenizer cuts texts; words are between blanks, or where not `spaced` characters."""
    rows = [one.ids for one in tokenizer.backend.encode_batch_fast(list(texts), add_special_tokens=False)]
    tokens, unknown = sum(map(len, rows)), sum(row.count(tokenizer.special.unk) for row in rows)
    words = sum(len(text.split()) if spaced else len(text) for text in texts)
    return Fertility(
        tokenizer.vocab_size,
        tokens,
        round(tokens / max(1, words), 4),
        round(sum(len(text.encode()) for text in texts) / max(1, tokens), 4),
        round(unknown / max(1, tokens), 6),
    )


def changed_tokens(old: Tokenizer, new: Tokenizer, texts: Sequence[str]) -> dict[str, int] | None:
    """Return how many tokens the old tokenizer makes of texts, and how many of these the new one does not make there.

    A token is the same where its text, its place and its id are. Raises TokenizerError where a text without new pieces
    is cut otherwise, or one is no longer given back by decoding.
    """
    if not texts:
        return None
    before, after = (one.backend.encode_batch(list(texts), add_special_tokens=False) for one in (old, new))
    changed = total = 0
    for text, was, now in zip(texts, before, after, strict=True):
        fresh = any(token >= old.vocab_size for token in now.ids)
        known = old.special.unk not in was.ids
        if (not fresh and was.ids != now.ids) or (known and old.decode(was.ids) != new.decode(now.ids)):
            raise TokenizerError(
                f"pieces added to {old.path} change text in which they do not occur, such as {text[:60]!r}; give "
                "--new-tokenizer, or leave out --extend-vocab"
            )
        same = set(zip(was.ids, was.offsets, strict=True)) & set(zip(now.ids, now.offsets, strict=True))
        total += len(was.ids)
        changed += len(was.ids) - len(same)
    return {"tokens": total, "changed": changed}


def general_texts() -> list[str]:
    """Return paragraphs of Python's language reference, of which the standard library has a copy."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return []
    paragraphs = [part for text in topics.values() for part in str(text).split("\n\n") if part.strip()]
    return _bounded(paragraphs, GENERAL_BYTES)


def _bounded(texts: Sequence[str], most: int) -> list[str]:
    """Return texts spread over all, about `most` bytes of them together."""
    total = sum(len(text.encode()) for text in texts)
    return list(texts[:: max(1, -(-total // most))])
