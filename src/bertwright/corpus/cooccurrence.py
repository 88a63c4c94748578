"""Turns the tokens of a split into counts of words 1 to 4 places apart, and keeps them in DATA/neighbours.safetensors.

Runs that start their weights from the corpus read this table instead of counting again. `prepare` writes it; for a
DATA folder of an earlier version the first run that needs it counts once and keeps the table there.

Counts are directed: at distance d, the count of (i, j) says how often word j stands d places after word i in the same
document. Only pairs that occur are kept, row by row (the CSR form), so that 26 million tokens of English take 50 MB:

    words        int64  [W]      ids of the counted words, ascending: the most frequent 8,192 at most
    frequencies  int64  [V]      how often each token stands in the whole split
    row_starts.d int64  [W + 1]  where the pairs of word i begin; the last one is P
    columns.d    uint16 [P]      j of each pair, ascending within a row
    counts.d     uint8  [P]      its count; 255 stands for the next number of large.d
    large.d      uint32 [L]      the counts of 255 and more, in order
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bertwright.corpus.shards import Shards
from bertwright.errors import BertwrightError, DataError
from bertwright.files import map_os_errors, written_aside
from bertwright.log import note

NEIGHBOURS = "neighbours.safetensors"
"""The file in a DATA folder."""
FORMAT = 1
DISTANCES = (1, 2, 3, 4)
MOST_TOKENS = 1 << 25
"""Tokens counted at most, from the front of the split; so no count, and no sum of counts, outgrows 31 bits."""
MOST_WORDS = 8192
"""Words counted, the most frequent ones."""
CHUNK = 1 << 22
"""Tokens counted at a time, from the front of each shard; pairs across the edge of a chunk are left out."""
MOST_BYTES = 200_000_000
"""What the table of a large text takes at most, roughly: 50 MB for 111 MB of English."""
FEW = 8
"""Pairs are sorted instead of counted in a table where it would have more than so many places for each."""
BLOCKS = 4
"""Parts of the rows that are counted one after the other, so that a table of 64-bit numbers takes 0.13 GB."""
LARGE = 255
"""Counts from here on stand in a list of their own: in English, 4 in 1,000 at distance 1, 1 in 1,000 at distance 4."""
DTYPES = {"words": "I64", "frequencies": "I64", "row_starts": "I64", "columns": "U16", "counts": "U8", "large": "U32"}


@dataclass(frozen=True)
class DistanceCounts:
    """How often word j stands a fixed number of places after word i, for the P pairs that occur (CSR).

    row_starts [W + 1] int64, columns [P] uint16 (ascending within a row), counts [P] int32, none zero.
    """

    row_starts: np.ndarray
    columns: np.ndarray
    counts: np.ndarray

    @cached_property
    def keys(self) -> np.ndarray:
        """Return i * W + j of each pair, [P] int64, ascending."""
        side = len(self.row_starts) - 1
        keys: np.ndarray = np.repeat(np.arange(side) * side, np.diff(self.row_starts)) + self.columns
        return keys


@dataclass(frozen=True)
class NeighbourCounts:
    """Which words stand how often 1 to 4 places apart in a split.

    words        [W] int64, ids of the counted words, ascending
    frequencies  [V] int64, of every token, over the whole split
    distances    the counts of each distance, by the distance
    """

    words: np.ndarray
    frequencies: np.ndarray
    distances: Mapping[int, DistanceCounts]

    @cached_property
    def tables(self) -> dict[int, Any]:
        """Return the counts of each distance d as a `scipy.sparse.csr_array` [W, W] int32.

        Entry [i, j] says how often words[j] stands d places after words[i].
        """
        from scipy.sparse import csr_array

        side = len(self.words)
        return {
            distance: csr_array(
                (found.counts, found.columns.astype(np.int32), found.row_starts.astype(np.int32)), shape=(side, side)
            )
            for distance, found in self.distances.items()
        }


def load_or_count(data: Path, shards: Shards, vocab_size: int) -> NeighbourCounts:
    """Return the neighbour counts of a DATA folder's split: read from its table, else counted and kept there.

    A table that is damaged, or of other shards, is named in a note and replaced. Where nothing can be written in
    `data`, the counts are returned all the same, and the next run counts again.
    """
    if (data / NEIGHBOURS).exists():
        try:
            return read_neighbours(data, fingerprint=shards.fingerprint, vocab_size=vocab_size)
        except DataError as error:
            note(f"{error}; counting again")
    counts = count_neighbours(shards, vocab_size)
    try:
        write_neighbours(data, counts, fingerprint=shards.fingerprint)
        note(f"counted which words stand near which, and kept the table in {data / NEIGHBOURS}")
    except (BertwrightError, OSError) as error:
        note(f"counted which words stand near which, and could not keep the table ({error})")
    return counts


def most_bytes(text_bytes: int) -> int:
    """Return about how many bytes the table of a text takes at most, from the bytes of text."""
    return min(text_bytes, MOST_BYTES) + 1_000_000


def word_frequencies(shards: Shards, vocab_size: int) -> np.ndarray:
    """Return how often each token stands in the split, [V] int64."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for shard in shards.shards:
        counts += np.bincount(shard.tokens, minlength=vocab_size)
    return counts


def read_or_count_frequencies(data: Path, shards: Shards, vocab_size: int) -> np.ndarray:
    """Return how often each token stands in a DATA folder's split, [V] int64: from its table where that is whole."""
    try:
        return read_neighbours(data, fingerprint=shards.fingerprint, vocab_size=vocab_size).frequencies
    except DataError:
        return word_frequencies(shards, vocab_size)


def count_neighbours(shards: Shards, vocab_size: int, *, frequencies: np.ndarray | None = None) -> NeighbourCounts:
    """Count the neighbours of the most frequent words of a split; `frequencies` [V] are counted where not given.

    Takes 0.9 GB of memory at most.
    """
    if frequencies is None:
        frequencies = word_frequencies(shards, vocab_size)
    common = np.argsort(-frequencies, kind="stable")[:MOST_WORDS]
    words = np.sort(common[frequencies[common] > 0])
    place = np.full(vocab_size, -1, dtype=np.int16)
    place[words] = np.arange(len(words))
    counted, chunk = _counted_tokens(shards, place)
    distances = {distance: _counted(_pairs(counted, chunk, len(words), distance), len(words)) for distance in DISTANCES}
    return NeighbourCounts(words, frequencies, distances)


def _counted_tokens(shards: Shards, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first tokens of a split as i of their word or -1, [T] int16, and the chunk that each is in, [T] int32.

    A chunk lies in one document and has at most CHUNK tokens; pairs are counted within one. `place` [V] is the i of a
    token.
    """
    words, starts, left = [np.zeros(0, dtype=np.int16)], [np.zeros(0, dtype=bool)], MOST_TOKENS
    for shard in shards.shards:
        if not left:
            break
        size = min(left, len(shard.tokens))
        words.append(place[shard.tokens[:size]])
        begins = np.zeros(size, dtype=bool)
        begins[shard.token_offsets[: np.searchsorted(shard.token_offsets, size)]] = True
        begins[::CHUNK] = True
        starts.append(begins)
        left -= size
    return np.concatenate(words), np.cumsum(np.concatenate(starts), dtype=np.int32)


def _pairs(words: np.ndarray, chunk: np.ndarray, side: int, distance: int) -> np.ndarray:
    """Return i * W + j, int32, of every two words `distance` apart in one chunk."""
    first, second = words[:-distance], words[distance:]
    both = (first >= 0) & (second >= 0) & (chunk[:-distance] == chunk[distance:])
    pairs: np.ndarray = first[both].astype(np.int32)
    pairs *= side
    pairs += second[both]
    return pairs


def _counted(pairs: np.ndarray, side: int) -> DistanceCounts:
    """Return how often each pair i * W + j occurs."""
    if len(pairs) * FEW < side * side:
        return _by_rows(*np.unique(pairs, return_counts=True), side)
    # A dense table of some rows for a moment: half the time of sorting the pairs (0.6 s for 26 million, against 1.4).
    step = -(-side // BLOCKS) * side
    keys, counts = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for start in range(0, side * side, max(step, 1)):
        table = np.bincount(pairs[(pairs >= start) & (pairs < start + step)] - np.int32(start))
        found = np.flatnonzero(table)
        keys.append(found + start)
        counts.append(table[found])
    return _by_rows(np.concatenate(keys), np.concatenate(counts), side)


def _by_rows(keys: np.ndarray, counts: np.ndarray, side: int) -> DistanceCounts:
    """Return pairs given by ascending i * W + j, and their counts, row by row."""
    row_starts = np.searchsorted(keys, np.arange(side + 1) * side)
    return DistanceCounts(row_starts, (keys % max(side, 1)).astype(np.uint16), counts.astype(np.int32))


def can_merge(splits: Sequence[Shards], vocab_size: int) -> bool:
    """Return whether the counts of each split add up to those of all together: nothing was left out of any."""
    return vocab_size <= MOST_WORDS and sum(split.token_count for split in splits) <= MOST_TOKENS


def merge_neighbours(several: Sequence[NeighbourCounts]) -> NeighbourCounts:
    """Return the counts of several splits with one tokenizer, added up, over the words of all."""
    frequencies = np.sum([one.frequencies for one in several], axis=0)
    words = np.unique(np.concatenate([one.words for one in several]))
    side = len(words)
    distances = {}
    for distance in DISTANCES:
        keys, counts = [], []
        for one in several:
            places, found = np.searchsorted(words, one.words), one.distances[distance]
            rows = np.repeat(places, np.diff(found.row_starts))
            keys.append(rows * side + places[found.columns])
            counts.append(found.counts)
        distinct, index = np.unique(np.concatenate(keys), return_inverse=True)
        added = np.bincount(index, weights=np.concatenate(counts), minlength=len(distinct)).astype(np.int32)
        distances[distance] = _by_rows(distinct, added, side)
    return NeighbourCounts(words, frequencies, distances)


def write_neighbours(data: Path, counts: NeighbourCounts, *, fingerprint: str) -> dict[str, Any]:
    """Write DATA/neighbours.safetensors, whole or not at all, and return its entry for the manifest.

    `fingerprint` is that of the DATA folder: a table is only read beside the shards it was counted from.
    """
    tensors = {"words": counts.words, "frequencies": counts.frequencies}
    for distance, found in counts.distances.items():
        tensors[f"row_starts.{distance}"] = found.row_starts
        tensors[f"columns.{distance}"] = found.columns
        tensors[f"counts.{distance}"] = np.minimum(found.counts, LARGE).astype(np.uint8)
        tensors[f"large.{distance}"] = found.counts[found.counts >= LARGE].astype(np.uint32)
    digest = _digest(tensors)
    # One entry of metadata: safetensors writes several in any order, and the same table shall have the same bytes.
    head = json.dumps({"format": FORMAT, "fingerprint": fingerprint, "xxh3_128": digest})
    path = data / NEIGHBOURS
    with map_os_errors(data), written_aside(path) as aside:
        aside.write_bytes(save(tensors, metadata={"bertwright": head}))
    return {"file": NEIGHBOURS, "bytes": path.stat().st_size, "xxh3_128": digest}


def read_neighbours(
    data: Path, *, fingerprint: str, vocab_size: int, digest: str | None = None
) -> NeighbourCounts:  # fmt: skip
    """Read and check the table of a DATA folder; raises DataError with what is wrong with it.

    Checked are its checksum (also against `digest`, where given), the fingerprint of the folder, and every size, type
    and number; nothing is read that is larger than a table can be.
    """
    path = data / NEIGHBOURS
    try:
        with safe_open(path, framework="numpy") as file:
            head = json.loads((file.metadata() or {})["bertwright"])
            if head["format"] != FORMAT:
                raise ValueError(f"format {str(head['format'])[:40]}, not {FORMAT}")
            if head["fingerprint"] != fingerprint:
                raise ValueError("it was counted from other shards")
            _check_sizes(file, vocab_size)
            tensors = {name: file.get_tensor(name) for name in _names()}
        found = _digest(tensors)
        if found != head["xxh3_128"] or found != (digest or found):
            raise ValueError("its checksum is another")
        return _checked_counts(tensors, vocab_size)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} is damaged or does not belong to this folder ({reason[:200]})") from error


def _names() -> list[str]:
    kinds = ("row_starts", "columns", "counts", "large")
    return ["words", "frequencies", *(f"{kind}.{distance}" for distance in DISTANCES for kind in kinds)]


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Return the XXH3 digest (128 bits) of the numbers, whatever the head of the file looks like."""
    digest = xxhash.xxh3_128()
    for name in _names():
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def _check_sizes(file: Any, vocab_size: int) -> None:
    """Raise ValueError where a tensor is not of the type and size that a table of `vocab_size` tokens has."""
    shapes: dict[str, int] = {}
    for name in _names():
        tensor = file.get_slice(name)
        shape, dtype = tensor.get_shape(), tensor.get_dtype()
        if dtype != DTYPES[name.split(".")[0]] or len(shape) != 1:
            raise ValueError(f"{name} is {dtype} {shape}")
        shapes[name] = shape[0]
    words = shapes["words"]
    if not 0 < words <= min(MOST_WORDS, vocab_size) or shapes["frequencies"] != vocab_size:
        raise ValueError(f"it counts {words:,} words of {shapes['frequencies']:,} tokens")
    for distance in DISTANCES:
        rows, columns, counts, large = (
            shapes[f"{kind}.{distance}"] for kind in ("row_starts", "columns", "counts", "large")
        )
        if rows != words + 1 or columns != counts or counts > min(words**2, MOST_TOKENS) or large > counts:
            raise ValueError(f"the sizes of distance {distance} do not fit together")


def _checked_counts(tensors: Mapping[str, np.ndarray], vocab_size: int) -> NeighbourCounts:
    """Return the counts that the tensors of a table hold; raises ValueError where their numbers are none."""
    words, frequencies = tensors["words"], tensors["frequencies"]
    # Bounds first: the difference of two 64-bit numbers far apart is any number.
    if words.min() < 0 or words.max() >= vocab_size or (np.diff(words) < 1).any():
        raise ValueError("its words are none of the vocabulary")
    if frequencies.min() < 0 or frequencies.max() > 2**62 // vocab_size:
        raise ValueError("its frequencies are none of a text")
    distances = {}
    for distance in DISTANCES:
        row_starts, columns = tensors[f"row_starts.{distance}"], tensors[f"columns.{distance}"]
        counts, large = tensors[f"counts.{distance}"].astype(np.int32), tensors[f"large.{distance}"]
        within = row_starts.min() >= 0 and row_starts.max() <= len(columns)
        if not within or row_starts[0] != 0 or row_starts[-1] != len(columns) or (np.diff(row_starts) < 0).any():
            raise ValueError(f"the rows of distance {distance} do not follow one another")
        if np.count_nonzero(counts == LARGE) != len(large) or (len(large) and large.min() < LARGE):
            raise ValueError(f"the large counts of distance {distance} do not fit")
        if large.sum(dtype=np.int64) > MOST_TOKENS:
            raise ValueError(f"the counts of distance {distance} are more than were counted")
        counts[counts == LARGE] = large
        found = DistanceCounts(row_starts, columns, counts)
        if len(counts) and (
            counts.min() < 1
            or counts.sum(dtype=np.int64) > MOST_TOKENS
            or columns.max() >= len(words)
            or (np.diff(found.keys) < 1).any()
        ):
            raise ValueError(f"the pairs of distance {distance} are no counts of {len(words):,} words")
        distances[distance] = found
    return NeighbourCounts(words, frequencies, distances)
