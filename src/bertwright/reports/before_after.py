"""Turns the evaluations of a run that went on from a model into what it brought: before and after, side by side.

Loss on the text it was trained on, and on general text, which says what it has forgotten: in nats a token and, since
tokens of two tokenizers cannot be compared, in nats a byte. And what it predicts for the same masked words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bertwright.data.pretraining.dataset import Dataset
from bertwright.log import Block, ResultTable
from bertwright.train.setup.evaluator import Beside, name_of_general

SHOWN = 3
"""Predictions of a masked word that the table shows."""
FIGURES = {
    "nats a token": ("nats_per_token", ".4f"),
    "nats a byte": ("nats_per_byte", ".4f"),
    "accuracy": ("accuracy", ".1%"),
}
"""Figures of a text: what each is called, its key, and how it is written."""
KEYS = {"nats_per_token": "mlm_loss", "nats_per_byte": "mlm_nats_per_byte", "accuracy": "mlm_accuracy"}
"""The same by their names among held-out figures."""


def before_after(
    lines: Sequence[Mapping[str, Any]], dataset: Dataset, beside: Beside, after: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what result.json holds as "before_after": figures of each text, and predictions, before and after the run.

    `lines` are those of metrics.jsonl, `after` the figures of result.json. Of several DATA folders the first is the
    domain, the others are general text. "own" are figures of the model before the run with its own vocabulary, where
    the data have another.
    """
    first: Mapping[str, Any] = next((line for line in lines if line["step"] == 0 and "valid" in line), {})
    names = [*dataset.names, *([name_of_general(beside.general, dataset)] if beside.general is not None else [])]
    texts = {}
    for place, name in enumerate(names):
        prefix = "" if place == 0 and len(dataset.names) == 1 else f"{name}/"
        found = {
            when: _figures(valid, prefix)
            for when, valid in (("before", first.get("valid", {})), ("after", after["valid"]))
        }
        own = {} if place else _figures(first.get("own_vocabulary", {}), "")
        if all(found.values()):
            texts[name] = {"role": "general" if place else "domain", **({"own": own} if own else {}), **found}
    samples = [
        {"text": old["text"], "label": old["truth"], "before": old["predictions"], "after": new["predictions"]}
        for old, new in zip(first.get("samples", ()), after["samples"], strict=False)
    ]
    return {"texts": texts, "samples": samples}


def _figures(valid: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Return the figures of a text; none where it was not evaluated."""
    return {ours: valid[name] for ours, key in KEYS.items() if (name := f"{prefix}{key}") in valid}


def comparison_tables(figures: Mapping[str, Any]) -> list[Block]:
    """Return the tables that people read of what `before_after` returns; none where nothing was evaluated."""
    own = any("own" in text for text in figures["texts"].values())
    columns = {**({"own": "before, its own vocabulary"} if own else {}), "before": "before", "after": "after"}
    rows = [
        [f"{name} ({text['role']}), {called}",
         *(format(text[when][key], form) if when in text else "" for when in columns),
         format(text["after"][key] - text["before"][key], f"+{form}")]
        for name, text in figures["texts"].items()
        for called, (key, form) in FIGURES.items()
        if key in text["before"]
    ]  # fmt: skip
    samples = [
        [f"{sample['text']} ({sample['label']})", _guesses(sample["before"]), _guesses(sample["after"])]
        for sample in figures["samples"]
    ]
    tables: list[Block] = []
    if rows:
        tables.append(ResultTable("held-out text, before and after", ["text", *columns.values(), "change"], rows))
    if samples:
        tables.append(ResultTable("predictions for [MASK]", ["sentence (the word)", "before", "after"], samples))
    return tables


def _guesses(predictions: Sequence[Sequence[Any]]) -> str:
    return ", ".join(f"{word} {probability:.0%}" for word, probability in predictions[:SHOWN])


def probe_figures(lines: Sequence[Mapping[str, Any]], beside: Beside) -> dict[str, dict[str, Any]]:
    """Return of each probe its kind, the accuracy of knowing nothing, and those measured first and last in a run."""
    measured = [line["probes"] for line in lines if "probes" in line]
    return {
        probe.name: {
            "kind": probe.kind,
            "chance": round(probe.chance, 4),
            "first": measured[0][probe.name],
            "accuracy": measured[-1][probe.name],
        }
        for probe in beside.probes
        if measured
    }
