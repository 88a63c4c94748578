"""Turns what a preparation counted into manifest.json, report.json and a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from bertwright.corpus.filters.text_filter import LINE_RULE
from bertwright.corpus.journal import Journal
from bertwright.corpus.manifest import FORMAT_VERSION, SPLITS, fingerprint_of
from bertwright.files import human_bytes
from bertwright.log import note

COUNTED = ("documents", "sentences", "words", "tokens")
DROPPED = {
    "empty": "empty",
    "duplicate": "exactly duplicate",
    "near_duplicate": "nearly duplicate",
    "repeated": "of repeated paragraphs alone",
    "repeated_paragraph": "repeated paragraphs",
    "broken": "broken lines",
    "passed over": "redirects and other pages that are no articles",
}
FILTERED = {
    LINE_RULE: "lines of few letters",
    "words": "too short or long",
    "word-length": "of odd words",
    "symbols": "of symbols",
    "digits": "of digits",
    "hashes": "of signs #",
    "bullet-lines": "of bullets",
    "ellipsis-lines": "of cut-off lines",
    "repeated-lines": "of repeated lines",
    "repeated-line-characters": "of long repeated lines",
    "repeated-sequences": "of repeated sequences",
    "language": "of another language",
}
DROPPED |= FILTERED
ALWAYS_SHOWN = ("empty", "duplicate", "broken")
MUCH_UNKNOWN = 0.05
"""Fraction of unknown tokens that is warned of."""


def manifest_of(
    journal: Journal, *, inputs: list[str], options: Mapping[str, Any], neighbours: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """Return the manifest of a finished preparation.

    The fingerprint names what training sees: the tokenizer and the bytes of the shards, not where the text came from.
    `neighbours` is what the manifest says of the table of neighbour counts.
    """
    splits = {
        split: {**{what: journal.total(split, what) for what in COUNTED}, "shards": journal.shards[split]}
        for split in SPLITS
        if journal.shards[split] or split == "train"
    }
    return {
        "format": FORMAT_VERSION,
        "bertwright": version("bertwright"),
        "fingerprint": fingerprint_in(journal),
        "language": options["language"],
        "language_by": journal.language_by,
        "tokenizer": journal.tokenizer,
        "unigram_entropy": entropy(np.array(journal.frequencies)),
        "splits": splits,
        "neighbours": dict(neighbours),
        "inputs": inputs,
        "options": dict(options),
        "dropped": {
            reason: journal.counts[reason] for reason in DROPPED if reason in ALWAYS_SHOWN or journal.counts[reason]
        },
        "text_bytes": journal.counts["text_bytes"],
    }


def fingerprint_in(journal: Journal) -> str:
    """Return the fingerprint of what a preparation has written."""
    digests = {split: [shard["sha256"] for shard in journal.shards[split]] for split in SPLITS}
    return fingerprint_of(journal.tokenizer["sha256"], digests)


def entropy(frequencies: np.ndarray) -> float:
    """Return the entropy of a token distribution in nats: the loss of a model that knows only how frequent tokens are.

    `frequencies` is [V]; all zero gives 0.
    """
    used = frequencies[frequencies > 0] / max(int(frequencies.sum()), 1)
    return float(-(used * np.log(used)).sum())


def report_of(
    journal: Journal, manifest: Mapping[str, Any], *, encoder: str, word_starts: str, seconds: float,
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the figures of a finished preparation; `seconds` is the wall time of this run.

    `beside` is how an older vocabulary cuts the same text (see `compare_vocabularies`), where there is one.
    """
    frequencies = np.array(journal.frequencies)
    tokens = {split: journal.total(split, "tokens") for split in SPLITS}
    words = journal.total("train", "words")
    shards = sum(journal.total(split, "bytes") for split in SPLITS)
    text = manifest["text_bytes"]
    return {
        **{what: {split: journal.total(split, what) for split in manifest["splits"]} for what in COUNTED},
        "tokens_per_word": tokens["train"] / max(words, 1),
        "bytes_per_token": text / max(sum(tokens.values()), 1),
        "unknown_rate": float(frequencies[manifest["tokenizer"]["special_ids"]["unk"]]) / max(tokens["train"], 1),
        "unigram_entropy": manifest["unigram_entropy"],
        "vocab_size": manifest["tokenizer"]["vocab_size"],
        "text_bytes": text,
        "shard_bytes": shards,
        "shard_bytes_per_text_byte": shards / max(text, 1),
        "neighbour_bytes": manifest["neighbours"]["bytes"],
        "dropped": manifest["dropped"],
        "dropped_examples": journal.examples,
        "megabytes_per_second": text / 1e6 / max(journal.seconds["shards"], 1e-9),
        "seconds": {**{stage: round(spent, 3) for stage, spent in journal.seconds.items()}, "this run": seconds},
        "encoder": encoder,
        "word_starts": word_starts,
        "fingerprint": manifest["fingerprint"],
        **({"vocabularies": dict(beside)} if beside else {}),
    }


def note_unknown(report: Mapping[str, Any]) -> None:
    """Warn where much of the text is unknown to the tokenizer."""
    if report["unknown_rate"] > MUCH_UNKNOWN:
        note(
            f"warning: {report['unknown_rate']:.1%} of the tokens are unknown, and a model learns nothing of them: "
            "prepare again with a larger --vocab-size, or another --tokenizer"
        )


def facts_of(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the report as the lines of a table."""
    counts = {what: "  +  ".join(f"{count:,} {split}" for split, count in report[what].items()) for what in COUNTED}
    dropped = [
        f"{report['dropped'][reason]:,} {name}" for reason, name in DROPPED.items() if reason in report["dropped"]
    ]
    stages = [f"{name} {spent:.1f}" for name, spent in report["seconds"].items() if name not in ("shards", "this run")]
    disk = (
        f"{human_bytes(report['shard_bytes'])} ({report['shard_bytes_per_text_byte']:.2f} bytes a byte of text)  +  "
        f"{human_bytes(report['neighbour_bytes'])} counts of neighbours"
    )
    return {
        **counts,
        "tokens per word": f"{report['tokens_per_word']:.3f}",
        "bytes per token": f"{report['bytes_per_token']:.3f}",
        "unknown tokens": f"{report['unknown_rate']:.4%}",
        "unigram entropy": f"{report['unigram_entropy']:.3f} nats a token",
        "vocabulary": f"{report['vocab_size']:,}",
        **_beside_facts(report.get("vocabularies")),
        "text": human_bytes(report["text_bytes"]),
        "on disk": disk,
        "dropped": ", ".join(dropped),
        "encoder": report["encoder"],
        "word starts": report["word_starts"],
        "speed": f"{report['megabytes_per_second']:.1f} MB/s of text, from reading to shards",
        "seconds": f"{report['seconds']['this run']:.1f} ({', '.join(stages)})",
    }


def _beside_facts(both: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what a sample of the text is with the older vocabulary and with this one, as lines of a table."""
    if both is None:
        return {}
    old, new, general = both["old"], both["new"], both["general"]
    cut = "{tokens_per_word:.3f} tokens a word, {bytes_per_token:.2f} bytes a token, {unknown_rate:.2%} unknown"
    fewer = new["tokens"] / max(1, old["tokens"]) - 1
    lines = {
        "given vocabulary": f"{old['vocab_size']:,}: of a sample of this text {cut.format(**old)}",
        "this vocabulary": f"{new['vocab_size']:,}: {cut.format(**new)}, {fewer:+.1%} tokens",
    }
    if general:
        lines["Python's reference"] = f"{general['changed']:,} of {general['tokens']:,} tokens are cut otherwise"
    return lines
