"""Turns DATA folders into the data of a run: manifests, tokenizer, splits and shares, read and compared once a start.

    bertwright pretrain --data en --data de --mixture 0.7,0.3 --out run

A run has one folder as a rule. Of several, the first is the run's DATA, whose tokenizer all must have been made with;
the others stand in its settings, so that a resumed run finds them there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bertwright.corpus.cooccurrence import (
    NeighbourCounts,
    can_merge,
    count_neighbours,
    load_or_count,
    merge_neighbours,
    read_or_count_frequencies,
)
from bertwright.corpus.manifest import check_tokenizer, read_manifest
from bertwright.corpus.report import entropy
from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.similar_words import similar_words
from bertwright.errors import DataError
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

COUNTED_TOKENS = 1 << 25
"""Tokens from the front of each folder whose frequencies give the mixture's entropy."""


@dataclass(frozen=True)
class Dataset:
    """The prepared text a run is trained on: one DATA folder, or several whose rows are mixed.

    folders    the DATA folder of the run first
    manifests  the manifest.json of each, validated
    tokenizer  of all of them
    train      the training shards of each
    valid      the held-out shards of each; None of one without held-out documents
    weights    how much of the rows each folder gives; they add up to anything
    """

    folders: tuple[Path, ...]
    manifests: tuple[dict[str, Any], ...]
    tokenizer: Tokenizer
    train: tuple[Shards, ...]
    valid: tuple[Shards | None, ...]
    weights: tuple[float, ...]

    @property
    def names(self) -> list[str]:
        """A short name of each folder, by which its held-out figures go."""
        return folder_names(self.folders)

    @property
    def vocab_size(self) -> int:
        """Tokens of the vocabulary."""
        return int(self.manifests[0]["tokenizer"]["vocab_size"])

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What is known of the data: of one folder its manifest, of several one that names them all."""
        first = self.manifests[0]
        if len(self.folders) == 1:
            return first
        fractions = np.array(self.weights) / sum(self.weights)
        prints = [manifest["fingerprint"] for manifest in self.manifests]
        return {
            **first,
            "fingerprint": hashlib.sha256(json.dumps(prints).encode()).hexdigest()[:32],
            "language": " + ".join(dict.fromkeys(manifest["language"] for manifest in self.manifests)),
            "unigram_entropy": entropy(self.token_fractions),
            "mixture": {
                str(folder): {"share": round(float(fraction), 6), "fingerprint": fingerprint}
                for folder, fraction, fingerprint in zip(self.folders, fractions, prints, strict=True)
            },
        }

    @cached_property
    def similar_words(self) -> Tensor:
        """The tokens of the training splits that are most like each token, [V, K] int64 (see `similar_words`)."""
        return similar_words(self.neighbour_counts(), self.tokenizer, vocab_size=self.vocab_size)

    @cached_property
    def token_fractions(self) -> np.ndarray:
        """The fraction of the mixture that each token makes up, [V], from the first tokens of each folder."""
        mixed, fractions = np.zeros(self.vocab_size), np.array(self.weights) / sum(self.weights)
        for split, fraction in zip(self.train, fractions, strict=True):
            counts, left = np.zeros(self.vocab_size, dtype=np.int64), COUNTED_TOKENS
            for shard in split.shards:
                counts += np.bincount(shard.tokens[:left], minlength=self.vocab_size)
                left = max(0, left - len(shard.tokens))
            mixed += fraction * counts / max(1, counts.sum())
        return mixed

    def neighbour_counts(self) -> NeighbourCounts:
        """Return the neighbour counts of the training splits, from the tables in their DATA folders.

        The tables of several folders are added up if all their words and tokens were counted; larger ones are counted
        together, their shards in turns.
        """
        each = list(zip(self.folders, self.train, strict=True))
        if len(each) > 1 and not can_merge(self.train, self.vocab_size):
            frequencies = [read_or_count_frequencies(*one, self.vocab_size) for one in each]
            in_turns = shuffled_together(self.train)
            return count_neighbours(in_turns, self.vocab_size, frequencies=np.sum(frequencies, axis=0))
        counts = [load_or_count(*one, self.vocab_size) for one in each]
        return counts[0] if len(counts) == 1 else merge_neighbours(counts)


def open_dataset(
    folders: Sequence[Path], *, mixture: Sequence[float] = (), manifests: Sequence[dict[str, Any]] | None = None
) -> Dataset:
    """Return the data in DATA folders; `mixture` is the weight of each, by their tokens where it is empty.

    `manifests` are those of the folders, where they have been read already. Raises DataError where a folder is damaged,
    where the tokenizer is not the one it was made with, and where the folders were not made with the same.
    """
    manifests = [read_manifest(folder) for folder in folders] if manifests is None else manifests
    first, expected = folders[0], manifests[0]["tokenizer"]
    for folder, manifest in zip(folders, manifests, strict=True):
        if manifest["tokenizer"]["sha256"] != expected["sha256"]:
            raise DataError(
                f"{folder} was prepared with another tokenizer than {first}; prepare it again with "
                f"--tokenizer {first / 'tokenizer'}"
            )
    tokenizer = load_tokenizer(check_tokenizer(first, manifest=manifests[0]))
    if expected["vocab_size"] != tokenizer.vocab_size:
        raise DataError(
            f"{first / 'manifest.json'} counts {expected['vocab_size']:,} tokens and its tokenizer has "
            f"{tokenizer.vocab_size:,}; prepare the data again"
        )
    each = list(zip(folders, manifests, strict=True))
    held_out = [manifest["splits"].get("valid", {}).get("documents") for manifest in manifests]
    train = tuple(Shards.open(folder, "train", manifest=manifest) for folder, manifest in each)
    return Dataset(
        folders=tuple(folders),
        manifests=tuple(manifests),
        tokenizer=tokenizer,
        train=train,
        valid=tuple(
            Shards.open(folder, "valid", manifest=manifest) if documents else None
            for (folder, manifest), documents in zip(each, held_out, strict=True)
        ),
        weights=tuple(mixture) or tuple(float(split.token_count) for split in train),
    )


def folder_names(folders: Sequence[Path]) -> list[str]:
    """Return a short name of each DATA folder: that of the folder, numbered where two are called alike."""
    names = [folder.resolve().name for folder in folders]
    return [name if names.count(name) == 1 else f"{name}-{index}" for index, name in enumerate(names)]


def bytes_per_token(manifest: Mapping[str, Any]) -> float | None:
    """Return how many bytes of text a token of a DATA folder stands for; None where its manifest does not say."""
    tokens = sum(split["tokens"] for split in manifest["splits"].values())
    return manifest["text_bytes"] / tokens if tokens and manifest.get("text_bytes") else None


def shuffled_together(splits: Sequence[Shards]) -> Shards:
    """Return the shards of all folders as one split, in turns, for what is counted from the front."""
    in_turns = chain.from_iterable(zip_longest(*(split.shards for split in splits)))
    return Shards([shard for shard in in_turns if shard is not None], fingerprint="")
