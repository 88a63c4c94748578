"""Turns documents into hashes: of their text, by which copies are found, and of five words in a row, for near-copies.

A word is a run of letters and digits in lower case, whatever stands between; in writing without blanks (Chinese,
Japanese, Thai ...) every character is one. All of it is arithmetic on whole arrays of bytes.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from bertwright.tokenizer.ragged import ranges

WORDS = 5
"""Words of a shingle, as for RefinedWeb (Penedo et al. 2023): chance has few five words in common."""
WINDOW = 1 << 18
"""Bytes hashed at a time: 20 bytes of memory each, and the tables of powers stay in the processor's cache."""

BETWEEN, LETTER, ALONE = 0, 1, 2
_BASE = 0x9E3779B97F4A7C15
_MIXER = np.uint64(0xFF51AFD7ED558CCD)
_WEIGHTS = np.array([0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 1], np.uint64)


def _kinds() -> np.ndarray:
    """Return what each byte is: letters, bytes between them, and leads of characters that stand alone."""
    kinds = np.full(256, BETWEEN, dtype=np.uint8)
    kinds[[*range(48, 58), *range(65, 91), *range(97, 123), *range(0x80, 0x100)]] = LETTER
    kinds[0xE3:0xF8] = ALONE  # U+3000 and above
    return kinds


def _powers(base: int) -> np.ndarray:
    powers = np.full(WINDOW, base, dtype=np.uint64)
    powers[0] = 1
    return np.asarray(np.cumprod(powers))


_KINDS = _kinds()
_POWERS, _INVERSES = _powers(_BASE), _powers(pow(_BASE, -1, 1 << 64))
_BYTE_VALUES = (np.arange(1, 257, dtype=np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)) ^ np.uint64(0x165667B19E3779F9)


def hash_documents(texts: pa.StringArray) -> np.ndarray:
    """Return the 64-bit xxh3 hash of each document's UTF-8 bytes, [D] uint64; equal hashes count as equal texts.

    Among a billion different documents the chance of any two meeting in one hash is 3% (n^2 / 2^65).
    """
    buffers = texts.buffers()
    ends = np.frombuffer(buffers[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1].tolist()
    data = memoryview(buffers[2] or b"")
    hashes = (xxhash.xxh3_64_intdigest(data[start:end]) for start, end in pairwise(ends))
    return np.fromiter(hashes, dtype=np.uint64, count=len(texts))


def valid_documents(hashes: np.ndarray, fraction: float) -> np.ndarray:
    """Return which documents belong to the valid split, [D] bool: a `fraction` of all, whatever their order."""
    return (hashes >> np.uint64(11)).astype(np.float64) < fraction * 2.0**53


def mixed(values: np.ndarray) -> np.ndarray:
    """Return [N] uint64 with every bit spread over all others (the finaliser of MurmurHash3, Appleby 2011)."""
    values = (values ^ (values >> np.uint64(33))) * _MIXER
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.asarray(values ^ (values >> np.uint64(33)))


def shingles(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of all shingles, [N] uint64, and how many each document has, [D] int64.

    A document of one to four words has one shingle of them all; one without words has none.
    """
    return shingles_of(*word_hashes(texts))


def shingles_of(words: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of all shingles, and how many each document has, from what `word_hashes` returned."""
    starts = np.cumsum(counts) - counts
    shingle_counts = np.maximum(counts - WORDS + 1, np.minimum(counts, 1))
    places = ranges(starts, shingle_counts)
    padded = np.concatenate([words, np.zeros(WORDS, np.uint64)])
    hashes = np.zeros(len(places), dtype=np.uint64)
    for offset, weight in enumerate(_WEIGHTS):
        hashes += padded[places + offset] * weight
    short = (counts > 0) & (counts < WORDS)
    has_word = np.arange(WORDS) < counts[short, None]
    hashes[np.cumsum(shingle_counts)[short] - 1] = (
        np.where(has_word, padded[starts[short, None] + np.arange(WORDS)], 0) * _WEIGHTS
    ).sum(axis=1, dtype=np.uint64)
    return mixed(hashes), shingle_counts


def bytes_of(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of documents one after another, [N] uint8, and where each begins and the last ends, [D + 1]."""
    buffers = texts.buffers()
    bounds = np.frombuffer(buffers[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    return np.frombuffer(buffers[2] or b"", dtype=np.uint8)[bounds[0] : bounds[-1]], bounds - bounds[0]


def word_hashes(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hash of every word, [W] uint64, and how many words each document has, [D] int64."""
    data, bounds = bytes_of(pc.utf8_lower(texts))
    hashes, places, begin = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], 0
    while begin < len(data):
        end = _cut(data, begin)
        first, last = np.searchsorted(bounds, [begin, end])
        window_hashes, starts = _window(data[begin:end], bounds[first:last] - begin)
        hashes.append(window_hashes)
        places.append(starts + begin)
        begin = end
    counts = np.diff(np.searchsorted(np.concatenate(places), bounds))
    return np.concatenate(hashes), counts


def _cut(data: np.ndarray, begin: int) -> int:
    """Return where a window that starts at `begin` ends: after a blank, or else before a character."""
    end = begin + WINDOW
    if end >= len(data):
        return len(data)
    for ends_here in (data[begin:end] <= 32, (data[begin + 1 : end + 1] & 0xC0) != 0x80):
        if ends_here.any():
            return begin + WINDOW - int(np.argmax(ends_here[::-1]))
    return end


def kinds_of(data: np.ndarray) -> np.ndarray:
    """Return what each byte of UTF-8 text belongs to, [N] uint8: BETWEEN words, a LETTER or digit, or the lead ALONE.

    ALONE leads a character that is a word of its own, in writing without blanks; bytes after the lead are LETTER.
    """
    kinds = _KINDS[data]
    following = np.append(data[1:], np.uint8(0))
    _set(kinds, np.flatnonzero(data == 0xC2), 2)  # U+0080 to U+00BF: blanks and marks
    _set(kinds, np.flatnonzero(((data == 0xE2) | (data == 0xE3)) & (following == 0x80)), 3)  # quotes, dashes, 、。
    wide = np.flatnonzero((data == 0xEF) & (following == 0xBC))
    third = data[np.minimum(wide + 2, len(data) - 1)]
    _set(kinds, wide[(third <= 0x8F) | ((third >= 0x9A) & (third <= 0xA0))], 3)  # ，！：？ and the like
    thai_lao_tibetan = (data == 0xE0) & (following >= 0xB8)
    kinds[thai_lao_tibetan | ((data == 0xE1) & np.isin(following, (0x80, 0x81, 0x82, 0x9E, 0x9F)))] = ALONE
    return np.asarray(kinds)


def _window(data: np.ndarray, document_starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of the words in some bytes, and where they start."""
    kinds = kinds_of(data)
    letters = kinds != BETWEEN
    starts = letters.copy()
    starts[1:] &= ~letters[:-1]
    alone = np.flatnonzero(kinds == ALONE)
    after = alone + np.where(data[alone] >= 0xF0, 4, 3)
    for places in (alone, after[after < len(data)], document_starts):
        starts[places] = letters[places]
    begins = np.flatnonzero(starts)
    if not len(begins):
        return np.zeros(0, np.uint64), begins
    values = _BYTE_VALUES[data] * letters * _POWERS[: len(data)]
    return mixed(np.add.reduceat(values, begins) * _INVERSES[begins]), begins


def _set(kinds: np.ndarray, leads: np.ndarray, width: int) -> None:
    """Mark characters of `width` bytes as standing between words."""
    for offset in range(width):
        places = leads + offset
        kinds[places[places < len(kinds)]] = BETWEEN
