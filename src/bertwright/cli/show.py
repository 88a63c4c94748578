"""The verb `show`: looks inside a DATA folder, a shard, a batch, a run or a model."""

from __future__ import annotations

from pathlib import Path

from bertwright.recipes.names import RECIPES


def show_command(
    thing: Path,
    /,
    *,
    split: str = "train",
    document: int | None = None,
    batch: int | None = None,
    length: int = 128,
    rows: int = 4,
    seed: int = 0,
    whole_word: bool = False,
    next_sentence: bool = True,
    pack: bool = False,
) -> None:
    """Look inside what bertwright makes: documents, batches with their masks in colour, runs, models; or a recipe.

    Example:
        bertwright show data/en --batch 1000 --whole-word
        bertwright show classic                    # every setting, the recipe's value, what it means

    Parameters
    ----------
    thing
        A DATA folder, a shard (.arrow), a RUN folder, a MODEL folder, or a recipe (its name, or a .toml file).
    split
        Of a DATA folder: train or valid.
    document
        Of a DATA folder or a shard: show this document whole, counted from 0.
    batch
        Of a DATA folder: show this batch, counted from 0, as a run sees it.
    length
        Tokens in a row of the batch.
    rows
        Rows in the batch; give those of the run to see the very batches it was given.
    seed
        Seed of the run.
    whole_word
        Hide whole words.
    next_sentence
        Pairs for next sentence prediction; rows of one segment without it.
    pack
        Rows of several documents, each on a line of its own; together with --no-next-sentence.
    """
    if thing.suffix == ".toml" or (str(thing) in RECIPES and not thing.exists()):
        from bertwright.recipes.show_settings import show_settings

        show_settings(str(thing))
    elif batch is None:
        from bertwright.recipes.show import show

        show(thing, split=split, document=document)
    else:
        from bertwright.recipes.show_batch import show_batch

        show_batch(
            thing,
            batch,
            split=split,
            length=length,
            rows=rows,
            seed=seed,
            whole_word=whole_word,
            next_sentence=next_sentence,
            pack=pack,
        )
