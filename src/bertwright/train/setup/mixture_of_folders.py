"""Turns several DATA folders into one: their tokenizer, one manifest, batches and held-out rows of each.

    bertwright pretrain --data en --data de --mixture 0.7,0.3 --out run

The first folder is the run's DATA; the others stand in its settings, so that a resumed run finds them there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.config import merge
from bertwright.corpus.cooccurrence import (
    NeighbourCounts,
    can_merge,
    count_neighbours,
    load_or_count,
    merge_neighbours,
    read_or_count_frequencies,
)
from bertwright.corpus.report import entropy
from bertwright.corpus.shards import Shards, read_manifest
from bertwright.data.pretraining.batches import BatchSource
from bertwright.data.pretraining.mixture import SMALLEST_SHARE, MixtureSource
from bertwright.errors import DataError, UsageError
from bertwright.tasks.metrics import with_perplexity
from bertwright.train.setup.pretrain_config import PretrainConfig

COUNTED_TOKENS = 1 << 25
"""Tokens from the front of each folder whose frequencies give the mixture's entropy."""


def with_mixture(
    data: Path | str | Sequence[Path | str], mixture: Sequence[float] | None, settings: Mapping[str, Any] | None
) -> tuple[Path, dict[str, Any]]:
    """Return the first of the DATA folders, and the settings with the others and their shares laid over them.

    Raises UsageError where the shares do not fit the folders.
    """
    folders = [data] if isinstance(data, (str, Path)) else list(data)
    if not folders:
        raise UsageError("no DATA folder was given; name at least one with --data")
    shares = list(mixture or ())
    if shares and len(shares) != len(folders):
        raise UsageError(
            f"--mixture gives {len(shares)} shares for {len(folders)} DATA folders; give one of each, in their order"
        )
    if any(not share >= SMALLEST_SHARE * sum(shares) for share in shares) or not all(np.isfinite(shares)):
        raise UsageError(
            f"--mixture {','.join(map(str, shares))}: each share must be {SMALLEST_SHARE:.1%} of all or more"
        )
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise UsageError("--data names a folder twice; give it once, with a larger share of --mixture")
    mixed: dict[str, Any] = {}
    if len(folders) > 1:
        mixed = {"data": {"others": [str(folder) for folder in folders[1:]]} | ({"mixture": shares} if shares else {})}
    return Path(folders[0]), merge(mixed, settings or {})


def folders_of(data: Path, config: PretrainConfig) -> list[Path]:
    """Return the DATA folders of a run, its own first."""
    return [data, *(Path(folder) for folder in config.data.others)]


def shares_of(data: Path, config: PretrainConfig) -> list[float]:
    """Return the share of rows each folder gives: as the settings say, else as the folders' tokens."""
    if config.data.mixture:
        return list(config.data.mixture)
    return [float(read_manifest(folder)["splits"]["train"]["tokens"]) for folder in folders_of(data, config)]


def open_train(data: Path, config: PretrainConfig) -> list[Shards]:
    """Return the training shards of each folder."""
    return [Shards.open(folder, "train") for folder in folders_of(data, config)]


def shuffled_together(splits: Sequence[Shards]) -> Shards:
    """Return the shards of all folders as one split, in turns, for what is counted from the front."""
    if len(splits) == 1:
        return splits[0]
    in_turns = chain.from_iterable(zip_longest(*(split.shards for split in splits)))
    return Shards([shard for shard in in_turns if shard is not None], fingerprint="")


def neighbours_of(data: Path, config: PretrainConfig, splits: Sequence[Shards]) -> NeighbourCounts:
    """Return the neighbour counts of a run's training splits, from the tables in their DATA folders.

    The tables of several folders are added up if all their words and tokens were counted; larger ones are counted
    together, their shards in turns.
    """
    folders = folders_of(data, config)
    vocab_size = int(read_manifest(data)["tokenizer"]["vocab_size"])
    if len(splits) > 1 and not can_merge(splits, vocab_size):
        each = (read_or_count_frequencies(*one, vocab_size) for one in zip(folders, splits, strict=True))
        return count_neighbours(shuffled_together(splits), vocab_size, frequencies=np.sum(list(each), axis=0))
    counts = [load_or_count(folder, split, vocab_size) for folder, split in zip(folders, splits, strict=True)]
    return counts[0] if len(counts) == 1 else merge_neighbours(counts)


def mix(
    sources: Sequence[BatchSource], shares: Sequence[float], *, rows: int, seed: int
) -> BatchSource | MixtureSource:
    """Return the source of a run's rows; of one folder it is that folder's own."""
    return sources[0] if len(sources) == 1 else MixtureSource(sources, shares, rows=rows, seed=seed)


def mixed_manifest(data: Path, config: PretrainConfig) -> dict[str, Any]:
    """Return the manifest of a run's DATA: of one folder its own, of several one that names them all.

    Raises DataError where the folders were not made with the same tokenizer.
    """
    folders = folders_of(data, config)
    manifests = [read_manifest(folder) for folder in folders]
    if len(manifests) == 1:
        return manifests[0]
    first = manifests[0]
    for folder, manifest in zip(folders, manifests, strict=True):
        if manifest["tokenizer"]["sha256"] != first["tokenizer"]["sha256"]:
            raise DataError(
                f"{folder} was prepared with another tokenizer than {data}; prepare it again with "
                f"--tokenizer {data / 'tokenizer'}"
            )
    shares = np.array(shares_of(data, config)) / sum(shares_of(data, config))
    prints = [manifest["fingerprint"] for manifest in manifests]
    return {
        **first,
        "fingerprint": hashlib.sha256(json.dumps(prints).encode()).hexdigest()[:32],
        "language": " + ".join(dict.fromkeys(manifest["language"] for manifest in manifests)),
        "unigram_entropy": _entropy(open_train(data, config), shares, first["tokenizer"]["vocab_size"]),
        "mixture": {
            str(folder): {"share": round(float(share), 6), "fingerprint": fingerprint}
            for folder, share, fingerprint in zip(folders, shares, prints, strict=True)
        },
    }


def _entropy(splits: Sequence[Shards], shares: np.ndarray, vocab_size: int) -> float:
    """Return the unigram entropy of the mixture in nats, from the first tokens of each split."""
    mixed = np.zeros(vocab_size)
    for split, share in zip(splits, shares, strict=True):
        counts, left = np.zeros(vocab_size, dtype=np.int64), COUNTED_TOKENS
        for shard in split.shards:
            counts += np.bincount(shard.tokens[:left], minlength=vocab_size)
            left = max(0, left - len(shard.tokens))
        mixed += share * counts / max(1, counts.sum())
    return entropy(mixed)


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return a short name of each folder, by which its held-out figures go."""
    names = [folder.resolve().name for folder in folders]
    return [name if names.count(name) == 1 else f"{name}-{index}" for index, name in enumerate(names)]


def mixed_figures(figures: Mapping[str, Mapping[str, float]], shares: Sequence[float]) -> dict[str, float]:
    """Return held-out figures of several folders as one mapping: of the mixture by their names, of each as NAME/figure.

    >>> mixed_figures({"en": {"mlm_loss": 4.0}, "de": {"mlm_loss": 6.0}}, [3, 1])
    {'mlm_loss': 4.5, 'mlm_perplexity': 90.017131, 'en/mlm_loss': 4.0, 'de/mlm_loss': 6.0}
    """
    if len(figures) == 1:
        return dict(next(iter(figures.values())))
    weights = dict(zip(figures, shares, strict=True))
    measured = {name: weights[name] for name, values in figures.items() if values}
    kinds = dict.fromkeys(kind for values in figures.values() for kind in values)
    mean = {
        kind: round(sum(figures[name][kind] * weight for name, weight in measured.items()) / sum(measured.values()), 6)
        for kind in kinds
        if all(kind in figures[name] for name in measured)
    }
    of_each = {f"{name}/{kind}": value for name, values in figures.items() for kind, value in values.items()}
    return with_perplexity(mean) | of_each
