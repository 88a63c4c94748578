"""The verb `finetune` at the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bertwright.cli.command import prints
from bertwright.cli.overrides import parse_overrides
from bertwright.result import Result
from bertwright.verbs.calls.finetune_flags import FinetuneFlags


@prints
def finetune_command(
    task: str,
    *overrides: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    model: Path,
    train: Path,
    dev: Path | None = None,
    test: Path | None = None,
    out: Path,
    resume: Annotated[bool, Parameter(negative="")] = False,
    num_seeds: int = 1,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    flags: Annotated[FinetuneFlags | None, Parameter(name="*", negative="")] = None,
) -> Result:
    """Train a pre-trained model for a task, and evaluate it.

    For example:
        bertwright finetune classify --model runs/en/model --train train.tsv --dev dev.tsv --out runs/sentiment
        bertwright finetune translate --model runs/both/model --train a.en,a.de --dev b.en,b.de --out runs/en-de
        bertwright finetune embed --model runs/en/model --train pairs.tsv --dev dev.tsv --out runs/sentences

    Settings are also given as --SECTION.FIELD VALUE, such as --optimizer.beta2 0.98 or --watch.evaluations 4.

    Parameters
    ----------
    task
        classify: which class is a text, or a pair of texts, of? regress: what score does it have? tag: which words of
        a sentence are entities, of which type (or what is each word)? answer: where in a context does the answer to a
        question stand? choose: which of several choices goes with a context? translate: what does it say in another
        language? embed: which texts are alike? (vectors; from pairs, texts alone, or pairs with a score)
    model
        Hugging Face BERT or ModernBERT folder to start from, pre-trained or already fine-tuned for something else.
    train
        Labelled examples: .tsv, .csv, .jsonl or .parquet; for tag also CoNLL, a word a line; for answer SQuAD .json, or
        a question a row; for translate two files of like many lines, SOURCE,TARGET, or PREFIX with --source and
        --target, or a table of two columns; for embed also a .txt file, a text a line.
    dev
        Examples the best checkpoint is chosen on; a share of the training file, by a hash of its texts, where not
        given.
    test
        Examples that are looked at once, at the end; without labels, predictions are written to OUT.
    out
        Folder of the run: settings, metrics, report.html, and the model in OUT/model.
    resume
        Go on with an interrupted run in OUT, as if nothing had been: give the same words, and this.
    num_seeds
        Train so many seeds; report mean and standard deviation, and keep the best on dev.
    overwrite
        Replace the run in OUT; it is deleted when the new one is about to begin.
    dry_run
        Write nothing: read model and files; print the settings, how many examples and steps there are, and the disk.
    """
    settings = parse_overrides(overrides, verb="finetune")
    from bertwright.verbs.finetune import finetune

    return finetune(
        task, model, train, dev, out, test=test, num_seeds=num_seeds, resume=resume,
        overwrite=overwrite, dry_run=dry_run, settings=settings, **(flags or FinetuneFlags()),
    )  # fmt: skip
