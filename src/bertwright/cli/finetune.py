"""The verb `finetune` at the terminal."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bertwright.cli.terminal.command import prints
from bertwright.cli.terminal.overrides import parse_overrides
from bertwright.result import Result
from bertwright.verbs.calls.finetune_flags import FinetuneCall, FinetuneFlags


@prints
def finetune_command(
    task: str,
    *overrides: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    call: Annotated[FinetuneCall, Parameter(name="*", negative="")],
    flags: Annotated[FinetuneFlags | None, Parameter(name="*", negative="")] = None,
) -> Result:
    """Train a pre-trained model for a task, and evaluate it.

    For example:
        bertwright finetune classify --model runs/en/model --train train.tsv --dev dev.tsv --out runs/sentiment
        bertwright finetune classify --model runs/en/model --train train.tsv --folds 5 --suspects --out runs/sentiment
        bertwright finetune rank --model runs/en/model --train queries.tsv --out runs/rank
        bertwright finetune translate --model runs/both/model --train a.en,a.de --dev b.en,b.de --out runs/en-de
        bertwright finetune embed --model runs/en/model --train pairs.tsv --dev dev.tsv --out runs/sentences

    Settings are also given as --SECTION.FIELD VALUE, such as --optimizer.beta2 0.98 or --watch.evaluations 4.

    Parameters
    ----------
    task
        classify: which class is a text, or a pair of texts, of? regress: what score does it have? tag: which words of
        a sentence are entities, of which type (or what is each word)? answer: where in a context does the answer to a
        question stand? choose: which of several choices goes with a context? rank: how well does a passage answer a
        query? translate: what does it say in another language? embed: which texts are alike? (vectors; from pairs,
        texts alone, or pairs with a score)
    """
    settings = parse_overrides(overrides, verb="finetune")
    from bertwright.verbs.finetune import finetune

    return finetune(task, **call, settings=settings, **(flags or FinetuneFlags()))
