"""Turns a batch of a DATA folder into its rows: segments, labels and padding, and the masks marked and in colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bertwright.corpus.manifest import read_manifest
from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.batches import BatchSource
from bertwright.data.pretraining.dataset import open_dataset
from bertwright.errors import UsageError
from bertwright.log import Block, Lines
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.reports.text import legend, row_text, row_title
from bertwright.result import Result
from bertwright.rng import key_of
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.types import Batch, MaskedBatch
from bertwright.verbs.calls.folder_kind import kind_of_folder


def show_batch(
    data: Path,
    number: int,
    *,
    split: str,
    length: int,
    rows: int,
    seed: int,
    whole_word: bool,
    next_sentence: bool,
    pack: bool,
    masking: str = "mlm",
) -> Result:
    """Return batch `number` of a DATA folder as a run with these settings sees it in its first phase, masks marked."""
    if kind_of_folder(data) != "data":
        raise UsageError(f"--batch looks into a DATA folder, and {data} is none")
    if number < 0 or rows < 1:
        raise UsageError("--batch counts from 0 and --num-rows from 1")
    if pack and next_sentence:
        raise UsageError("--pack shows rows of several documents, not pairs; give --no-next-sentence too")
    tokenizer, vocab_size = load_tokenizer(data), read_manifest(data)["tokenizer"]["vocab_size"]
    config = ObjectiveConfig(names=(masking, "nsp") if next_sentence else (masking,), whole_word=whole_word)
    objective = build_objective(
        config,
        vocab_size=vocab_size,
        mask_id=tokenizer.special.mask,
        similar=lambda: open_dataset([data]).similar_words,
    )
    shards = Shards.open(data, split)
    shards.check(vocab_size)
    source = BatchSource(
        shards,
        special=tokenizer.special,
        length=length,
        rows=rows,
        pairs=objective.rows != "single",
        pack=pack,
        seed=seed,
    )
    batch = source.draw(number)
    generator = torch.Generator().manual_seed(key_of("mask", seed, number, 0))
    filled = float(batch.attention_mask.float().mean())
    title = (
        f"batch {number} of {data} ({split}), seed {seed}: {rows} rows of {length} tokens, {filled:.0%} filled; "
        f"an epoch has {source.rows_per_epoch:,} rows"
    )
    figures = {"kind": "batch", "batch": number, "split": split, "seed": seed, "rows_per_epoch": source.rows_per_epoch}
    figures["masking"] = objective.describe()
    return rows_result(figures, title, batch, objective.corrupt(batch, generator), tokenizer)


def rows_result(
    figures: dict[str, Any], title: str, batch: Batch, masked: MaskedBatch, tokenizer: Tokenizer, *,
    most: int | None = None, kind: str = "pairs",
) -> Result:  # fmt: skip
    """Return `figures` with the rows of a batch, or its first ones, and what they look like with their masks marked.

    `kind` is what the objective needs of pairs.
    """
    mask = tokenizer.special.mask
    unused = int(masked.input_ids.max()) + 1 - len(tokenizer.tokens)
    names = tokenizer.tokens + ["[unused]"] * max(0, unused)
    blocks: list[Block] = [Lines([title]), Lines([figures["masking"], legend(names[mask])], wrap=True)]
    rows = range(len(batch.input_ids))[:most]
    for row in rows:
        blocks.append(Lines([f"\n{row_title(batch, masked, row, kind=kind)}"], style="bold", wrap=True))
        blocks.append(Lines([row_text(batch, masked, row, tokens=names, mask_id=mask)], wrap=True))
    return Result({**figures, "rows": [_row_figures(batch, masked, row, names) for row in rows]}, *blocks)


def _row_figures(batch: Batch, masked: MaskedBatch, row: int, names: list[str]) -> dict[str, Any]:
    """Return the tokens of a row as the model sees them, padding left out, and the true ones at the masked places."""
    used = int(batch.attention_mask[row].sum())
    used_slots = masked.masked_weights[row] > 0
    slots = (masked.masked_positions[row][used_slots].tolist(), masked.masked_labels[row][used_slots].tolist())
    figures = {
        "tokens": [names[token] for token in masked.input_ids[row, :used].tolist()],
        "segments": batch.token_type_ids[row, :used].tolist(),
        "masked": {str(place): names[label] for place, label in zip(*slots, strict=True)},
    }
    return figures if batch.next_label is None else {**figures, "next_label": int(batch.next_label[row])}
