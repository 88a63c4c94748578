"""Turns clean documents into a DocumentBlock: sentences, token ids and word starts, ready for a shard."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.sentences import Newlines, cut_words, split_sentences
from bertwright.corpus.shards import DocumentBlock, token_dtype
from bertwright.tokenizer.alphabet import code_points, standing_alone
from bertwright.tokenizer.bulk import BulkEncoder
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.ragged import Ragged
from bertwright.tokenizer.word_starts import wants_leading_blank, word_rule

SEGMENTED = frozenset({"zh", "zh-hans", "zh-hant", "zh-cn", "zh-tw"})
"""Languages whose words are found by a dictionary, not by blanks."""
UNSPACED = SEGMENTED | {"ja", "th", "lo", "km", "my", "bo"}
PROOF_SENTENCES = 10_000
"""Each also proves its characters one by one in several contexts, and every new one is tried before its first use."""


class DocumentEncoder:
    """Encodes documents of one language with one tokenizer.

    statement        which encoder is used, and on what grounds
    word_statement   how word starts are found

    >>> # needs a tokenizer
    >>> encoder = DocumentEncoder(tokenizer, language="en", newline="paragraph", sample=texts)  # doctest: +SKIP
    >>> encoder.encode(*encoder.split(pa.array(["One. Two."]))).sentence_counts  # doctest: +SKIP
    array([2])
    """

    def __init__(self, tokenizer: Tokenizer, *, language: str, newline: Newlines, sample: Sequence[str]) -> None:
        """Choose encoder and word rule by proving them on the sentences of some sample documents."""
        self._language = language
        self._newline = newline
        self._dtype = token_dtype(tokenizer.vocab_size)
        self._reserved = tokenizer.reserved
        self._rule = word_rule(tokenizer)
        self._blank = language not in UNSPACED and wants_leading_blank(tokenizer)
        self._bulk = BulkEncoder(tokenizer)
        sentences = choose_sentences(self.split(pa.array(sample, type=pa.string()))[0])
        self._bulk.prove(sentences)
        self.statement = self._bulk.statement
        self._by_words = False
        self.word_statement = "from the tokens"
        if language in SEGMENTED:
            self.word_statement = self._prove_words(sentences)

    def split(self, texts: pa.StringArray) -> tuple[list[str], np.ndarray]:
        """Return the sentences of D documents in order, and how many each document has, [D] int64."""
        texts = break_reserved(texts, self._reserved)
        return split_sentences(texts, self._language, newline=self._newline)

    def encode(self, sentences: list[str], sentence_counts: np.ndarray) -> DocumentBlock:
        """Return the documents that have any token, from what `split` returned; sentences without one are left out.

        tokie works outside Python's lock, so this may run in a thread while another splits.
        """
        if self._by_words:
            rows, starts = self._encode_words(sentences)
        else:
            rows = self._bulk.encode(self._with_blanks(sentences, sentence_counts))
            starts = self._rule.starts(rows)
        return document_block(Ragged(rows.values.astype(self._dtype), rows.lengths), sentence_counts, starts)

    def _encode_words(self, sentences: list[str]) -> tuple[Ragged, np.ndarray]:
        """Encode word by word; a sentence whose words do not add up to its own encoding is encoded as a whole."""
        words, words_of_sentence = cut_words(sentences)
        by_word = self._encode_repeated(words)
        starts = by_word.begins
        ends = np.concatenate([[0], np.cumsum(by_word.lengths)])[np.cumsum(words_of_sentence)]
        rows = Ragged(by_word.values, np.diff(ends, prepend=0))
        doubtful = with_joining_characters(sentences)
        whole = self._bulk.encode([sentences[index] for index in doubtful.tolist()])
        wrong = ~rows.take(doubtful).equals(whole)
        if wrong.any():
            whole = whole.take(np.flatnonzero(wrong))
            marks = Ragged(starts, rows.lengths)
            starts = marks.replace(doubtful[wrong], Ragged(self._rule.starts(whole), whole.lengths)).values
            rows = rows.replace(doubtful[wrong], whole)
        return rows, starts

    def _encode_repeated(self, words: list[str]) -> Ragged:
        """Encode each different word once: of a batch of Chinese, nine words in ten are repetitions."""
        numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
        places = np.fromiter(map(numbers.__getitem__, words), dtype=np.int64, count=len(words))
        return self._bulk.encode(list(numbers)).take(places)

    def _with_blanks(self, sentences: list[str], sentence_counts: np.ndarray) -> list[str]:
        """Give every sentence but the first of a document the blank it had in running text, where tokens need it."""
        if not self._blank:
            return sentences
        spaced = [f" {sentence}" for sentence in sentences]
        for first in (np.cumsum(sentence_counts) - sentence_counts)[sentence_counts > 0].tolist():
            spaced[first] = sentences[first]
        return spaced

    def _prove_words(self, sentences: list[str]) -> str:
        """Encode by words from now on if that gives the ids of whole sentences; return what was decided."""
        differing = np.flatnonzero(~self._encode_words(sentences)[0].equals(self._bulk.encode(sentences)))
        self._by_words = not len(differing)
        if self._by_words:
            return "words of rjieba"
        example = sentences[int(differing[0])][:40]
        return f"every character a word: rjieba's words do not fit this tokenizer, as in {example!r}"


def choose_sentences(sentences: list[str]) -> list[str]:
    """Return up to 10,000 sentences for a proof, half of them with characters beyond ASCII if there are so many."""
    odd = [sentence for sentence in sentences if not sentence.isascii()]
    plain = [sentence for sentence in sentences if sentence.isascii()]
    few_odd = _spread(odd, max(PROOF_SENTENCES // 2, PROOF_SENTENCES - len(plain)))
    return few_odd + _spread(plain, PROOF_SENTENCES - len(few_odd))


def with_joining_characters(sentences: list[str]) -> np.ndarray:
    """Return the indices of the sentences with characters that a BERT tokenizer may join with their neighbours.

    Those are neither ASCII nor CJK nor marks: full-width digits, Latin letters with accents, symbols such as □. Where
    they meet, the dictionary may cut what the tokenizer keeps together.
    """
    places = np.flatnonzero(~standing_alone()[code_points("".join(sentences))])
    ends = np.cumsum(np.fromiter(map(len, sentences), dtype=np.int64, count=len(sentences)))
    return np.unique(np.searchsorted(ends, places, side="right"))


def break_reserved(texts: pa.StringArray, reserved: Sequence[str]) -> pa.StringArray:
    """Put a blank into special tokens that stand in the text itself, such as "[MASK]", so that they stay text."""
    data = texts.buffers()[2]
    anywhere = re.compile(b"|".join(re.escape(token.encode()) for token in reserved))
    if data and reserved and anywhere.search(data):
        for token in reserved:
            texts = pc.replace_substring(texts, token, f"{token[0]} {token[1:]}")
    return texts


def document_block(sentences: Ragged, sentence_counts: np.ndarray, starts: np.ndarray) -> DocumentBlock:
    """Return a block of the documents that have tokens.

    `sentences` are the ids of N sentences, [T], sentence_counts [D] sentences of each document, starts [T] bool.
    """
    document_of = np.repeat(np.arange(len(sentence_counts)), sentence_counts)
    full = sentences.lengths > 0
    document_of, ends = document_of[full], np.cumsum(sentences.lengths)[full]
    sentence_counts = np.bincount(document_of, minlength=len(sentence_counts))
    kept = sentence_counts > 0
    last_sentences = np.cumsum(sentence_counts[kept]) - 1
    token_counts = np.diff(ends[last_sentences], prepend=0)
    begins = np.cumsum(token_counts) - token_counts
    return DocumentBlock(
        tokens=sentences.values,
        token_counts=token_counts,
        sentence_ends=(ends - np.repeat(begins, sentence_counts[kept])).astype(np.uint32),
        sentence_counts=sentence_counts[kept].astype(np.int64),
        word_starts=starts,
    )


def _spread(sentences: list[str], most: int) -> list[str]:
    stride = -(-len(sentences) // most) if most > 0 else 0
    return sentences[::stride][:most] if stride else []
