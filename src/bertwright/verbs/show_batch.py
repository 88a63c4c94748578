"""Shows a batch as a run sees it: its rows with segments, labels and padding, and the masks marked and in colour."""

from __future__ import annotations

from pathlib import Path

import torch

from bertwright.corpus.shards import Shards, read_manifest
from bertwright.data.pretraining.batches import BatchSource
from bertwright.errors import UsageError
from bertwright.log import results
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.reports.text import legend, row_text, row_title
from bertwright.rng import key_of
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.types import Batch, MaskedBatch
from bertwright.verbs.show import kind_of_folder


def show_batch(
    data: Path,
    number: int,
    *,
    split: str = "train",
    length: int = 128,
    rows: int = 4,
    seed: int = 0,
    whole_word: bool = False,
    next_sentence: bool = True,
    pack: bool = False,
) -> None:
    """Print batch `number` of a DATA folder as a run with these settings sees it in its first phase, masks marked."""
    if kind_of_folder(data) != "data":
        raise UsageError(f"--batch looks into a DATA folder, and {data} is none")
    if number < 0 or rows < 1:
        raise UsageError("--batch counts from 0 and --num-rows from 1")
    if pack and next_sentence:
        raise UsageError("--pack shows rows of several documents, not pairs; give --no-next-sentence too")
    tokenizer, vocab_size = load_tokenizer(data), read_manifest(data)["tokenizer"]["vocab_size"]
    config = ObjectiveConfig(whole_word=whole_word, next_sentence=next_sentence)
    objective = build_objective(config, vocab_size=vocab_size, mask_id=tokenizer.special.mask)
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
    results().print(
        f"batch {number} of {data} ({split}), seed {seed}: {rows} rows of {length} tokens, {filled:.0%} filled; "
        f"an epoch has {source.rows_per_epoch:,} rows",
        markup=False,
        soft_wrap=True,
    )
    print_rows(batch, objective.corrupt(batch, generator), tokenizer)


def print_rows(batch: Batch, example: MaskedBatch, tokenizer: Tokenizer, *, most: int | None = None) -> None:
    """Print the rows of a batch, or its first ones, with their masks marked."""
    console, mask = results(), tokenizer.special.mask
    unused = int(example.input_ids.max()) + 1 - len(tokenizer.tokens)
    names = tokenizer.tokens + ["[unused]"] * max(0, unused)
    console.print(legend(names[mask]))
    for row in range(len(batch.input_ids))[:most]:
        console.print(f"\n{row_title(batch, example, row)}", style="bold", markup=False)
        console.print(row_text(batch, example, row, tokens=names, mask_id=mask))
