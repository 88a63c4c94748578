"""Looks inside what bertwright makes: a DATA folder, a shard, a batch, a run, a checkpoint, a model, a recipe.

What a thing needs is imported when one is shown, so that documents and models are there at once, without torch,
and --help without arrays.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from bertwright.configs.names import RECIPES
from bertwright.errors import InputError, UsageError
from bertwright.flags import with_flags
from bertwright.result import Result
from bertwright.verbs.calls.folder_kind import kind_of_folder


@with_flags("show")
def show(
    thing: Path | str,
    other: Path | str | None = None,
    *,
    split: str = "train",
    document: int | None = None,
    batch: int | None = None,
    recipe: Path | str | None = None,
    phase: int | None = None,
    length: int = 128,
    num_rows: int = 4,
    seed: int | None = None,
    whole_word: bool = False,
    next_sentence: bool = True,
    pack: bool = False,
    masking: str = "mlm",
) -> Result:
    """Look inside what bertwright makes: documents, batches with their masks in colour, runs, models; or a recipe.

    Parameters
    ----------
    thing
        A DATA folder, a shard (.arrow), a RUN folder, a checkpoint of it, a study of tune, a MODEL folder, a recipe
        (its name, or a .toml file), or the word recipes: a table of those that come along.
    other
        A second RUN folder: show what differs in settings and figures.
    split
        Of a DATA folder: train or valid.
    document
        Of a DATA folder or a shard: show this document whole, counted from 0.
    batch
        Of a DATA folder or a RUN: show this batch, counted from 0, as a run sees it.
    recipe
        Of a DATA folder: see it as a run of this recipe does (its name, or a .toml file such as RUN/config.toml). Then
        of the flags below --num-rows and --seed alone can be given.
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
        Mask whole words.
    next_sentence
        Pairs for next sentence prediction; rows of one segment without it.
    pack
        Rows of several documents, each on a line of its own; together with --no-next-sentence.
    masking
        Which tokens are masked, and how: mlm, span, ngram or macbert, as in objective.names.

    Raises
    ------
    InputError
        Where `thing` is none of these; DataError or ModelError where it is damaged.

    Examples
    --------
    >>> bertwright.show("data", document=0)["documents"][0]["words"]  # needs a DATA folder  # doctest: +SKIP
    412
    """
    name, thing = str(thing), Path(thing)
    if other is not None:
        return _show_two(thing, Path(other), looks_into_one=batch is not None or document is not None)
    if batch is None and (recipe is not None or phase is not None):
        raise UsageError("--recipe and --phase say how a batch is seen; name one with --batch N")
    shown = _show_recipe(name)
    if shown is not None:
        return shown
    if batch is None:
        return _show_whole(thing, split=split, document=document)
    if recipe is not None or (thing / "config.toml").is_file():
        from bertwright.verbs.calls.showing.show_step import show_step

        if (length, split, whole_word, next_sentence, pack, masking) != (128, "train", False, True, False, "mlm"):
            raise UsageError(
                "--length, --split, --whole-word, --no-next-sentence, --pack and --masking are as the recipe or the "
                "run says; leave them out"
            )
        return show_step(
            thing, batch, recipe=None if recipe is None else str(recipe), phase=phase, rows=num_rows, seed=seed
        )
    from bertwright.verbs.calls.showing.show_batch import show_batch

    return show_batch(
        thing, batch, split=split, length=length, rows=num_rows, seed=seed or 0, whole_word=whole_word,
        next_sentence=next_sentence, pack=pack, masking=masking,
    )  # fmt: skip


def _show_two(thing: Path, other: Path, *, looks_into_one: bool) -> Result:
    """Return what differs between two runs; raises UsageError where flags `look into one` thing."""
    if looks_into_one:
        raise UsageError("--batch and --document look into one thing; leave the second one out")
    from bertwright.verbs.calls.showing.show_differences import show_differences

    return show_differences(thing, other)


def _show_recipe(name: str) -> Result | None:
    """Return the table of recipes, or the settings of one; None where `name` is neither.

    Raises InputError for a name that is nearly that of a recipe, and nothing else.
    """
    thing = Path(name)
    if name == "recipes" and not thing.exists():
        from bertwright.verbs.calls.showing.show_settings import show_recipes

        return show_recipes()
    if thing.suffix == ".toml" or (name in RECIPES and not thing.exists()):
        from bertwright.verbs.calls.showing.show_settings import show_settings

        return show_settings(name)
    if not thing.exists() and (near := get_close_matches(name, RECIPES, n=1)):
        raise InputError(f"{name} does not exist; did you mean the recipe {near[0]}?")
    return None


def _show_whole(thing: Path, *, split: str, document: int | None) -> Result:
    """Return what a folder or a shard holds."""
    kind = kind_of_folder(thing)
    if document is not None and kind not in ("data", "shard"):
        raise UsageError(f"--document looks into a DATA folder or a shard, and {thing} is a {kind} folder")
    if kind == "run":
        from bertwright.verbs.calls.showing.show_run import show_run

        return show_run(thing)
    if kind == "study":
        from bertwright.verbs.calls.showing.show_study import show_study

        return show_study(thing)
    if kind == "model":
        from bertwright.reports.model_table import show_model

        return show_model(thing)
    if kind == "checkpoint":
        from bertwright.reports.checkpoint_table import show_checkpoint

        return show_checkpoint(thing)
    from bertwright.verbs.calls.showing.show_data import show_data, show_shard

    return show_shard(thing, document=document) if kind == "shard" else show_data(thing, split, document=document)
