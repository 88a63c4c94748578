"""The verb `show`: looks inside a DATA folder, a shard, a batch, a run or a model."""

from __future__ import annotations

from pathlib import Path

from bertwright.configs.names import RECIPES
from bertwright.errors import UsageError


def show_command(
    thing: Path,
    /,
    *,
    split: str = "train",
    document: int | None = None,
    batch: int | None = None,
    recipe: str | None = None,
    phase: int | None = None,
    length: int = 128,
    num_rows: int = 4,
    seed: int | None = None,
    whole_word: bool = False,
    next_sentence: bool = True,
    pack: bool = False,
) -> None:
    """Look inside what bertwright makes: documents, batches with their masks in colour, runs, models; or a recipe.

    Example:
        bertwright show data/en --batch 1000 --recipe fast    # what that step of a run sees
        bertwright show runs/en --batch 1000                  # what it saw
        bertwright show data/en --batch 1000 --whole-word
        bertwright show recipes
        bertwright show classic                    # every setting, the recipe's value, what it means

    Parameters
    ----------
    thing
        A DATA folder, a shard (.arrow), a RUN folder, a checkpoint of it, a MODEL folder, a recipe (its name, or a
        .toml file), or the word recipes: a table of those that come along.
    split
        Of a DATA folder: train or valid.
    document
        Of a DATA folder or a shard: show this document whole, counted from 0.
    batch
        Of a DATA folder or a RUN: show this batch, counted from 0, as a run sees it.
    recipe
        Of a DATA folder: see it as a run of this recipe does (its name, or a .toml file such as RUN/config.toml), which
        says what the flags below but --num-rows and --seed say otherwise.
    phase
        Of a RUN or with --recipe: count the batch from the start of this phase, 1 for the first.
    length
        Tokens in a row of the batch.
    num_rows
        Rows in the batch; give those of the run to see the very batches it was given. With a RUN or --recipe: rows of
        it to show.
    seed
        Seed of the run; that of the recipe or the RUN where not given, or 0.
    whole_word
        Hide whole words.
    next_sentence
        Pairs for next sentence prediction; rows of one segment without it.
    pack
        Rows of several documents, each on a line of its own; together with --no-next-sentence.
    """
    if batch is None and (recipe is not None or phase is not None):
        raise UsageError("--recipe and --phase say how a batch is seen; name one with --batch N")
    if str(thing) == "recipes" and not thing.exists():
        from bertwright.verbs.show_settings import show_recipes

        show_recipes()
    elif thing.suffix == ".toml" or (str(thing) in RECIPES and not thing.exists()):
        from bertwright.verbs.show_settings import show_settings

        show_settings(str(thing))
    elif batch is None:
        from bertwright.verbs.show import show

        show(thing, split=split, document=document)
    elif recipe is not None or (thing / "config.toml").is_file():
        from bertwright.verbs.show_step import show_step

        if (length, split, whole_word, next_sentence, pack) != (128, "train", False, True, False):
            raise UsageError(
                "--length, --split, --whole-word, --no-next-sentence and --pack are as the recipe or the run says; "
                "leave them out"
            )
        show_step(thing, batch, recipe=recipe, phase=phase, rows=num_rows, seed=seed)
    else:
        from bertwright.verbs.show_batch import show_batch

        show_batch(
            thing, batch, split=split, length=length, rows=num_rows, seed=seed or 0, whole_word=whole_word,
            next_sentence=next_sentence, pack=pack,
        )  # fmt: skip
