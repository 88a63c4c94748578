"""The verb `finetune`: turns flags into settings and calls the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from bertwright.cli.overrides import parse_overrides
from bertwright.config import merge


def finetune_command(
    task: str,
    *overrides: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    model: Path,
    train: Path,
    dev: Path,
    test: Path | None = None,
    out: Path,
    seeds: int = 1,
    seed: int | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    rows: int | None = None,
    max_length: int | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    metric: str | None = None,
    patience: int | None = None,
    layer_decay: float | None = None,
    freeze: int | None = None,
    dropout: float | None = None,
    source: str | None = None,
    target: str | None = None,
    start: Literal["both", "encoder", "neither"] | None = None,
    decoder_layers: int | None = None,
) -> None:
    """Train a pre-trained model for a task, and judge it.

    Example:
        bertwright finetune classify --model runs/en/model --train train.tsv --dev dev.tsv --out runs/sentiment
        bertwright finetune translate --model runs/both/model --train a.en,a.de --dev b.en,b.de --out runs/en-de
        bertwright finetune embed --model runs/en/model --train pairs.tsv --dev dev.tsv --out runs/sentences

    Settings are also given as --SECTION.FIELD VALUE, such as --optimizer.weight-decay 0.1 or --watch.evaluations 4.

    Parameters
    ----------
    task
        classify: which class is a text, or a pair of texts, of? regress: what score does it have? tag: which words of
        a sentence are entities, of which type (or what is each word)? translate: what does it say in another language?
        embed: which texts are alike? (vectors; from pairs, texts alone, or pairs with a score)
    model
        Hugging Face BERT or ModernBERT folder to start from, pre-trained or already fine-tuned for something else.
    train
        Labelled examples: .tsv, .csv, .jsonl or .parquet; for tag a CoNLL file, a word a line; for translate two files
        of like many lines, SOURCE,TARGET, or PREFIX with --source and --target, or a table of two columns;
        for embed also a .txt file, a text a line.
    dev
        Examples the best checkpoint is chosen on.
    test
        Examples that are looked at once, at the end.
    out
        Folder of the run: settings, metrics, report.html, and the model in OUT/model.
    seeds
        Train so many times and tell mean and spread; the best on dev is kept.
    seed
        The first of them.
    epochs
        Passes over the training file; 3 where not given.
    learning_rate
        Peak learning rate; 3e-5 x 768 / width of the model where not given.
    rows
        Examples a step; 32 where not given.
    max_length
        Longest row in tokens; 512 where not given, and never more than the model reads.
    text_column
        Column of the text, or of the first text of a pair; told by its name where not given. Without a header: 1, 2 ...
    pair_column
        Column of the second text of a pair.
    label_column
        Column of the label, score or tag; for tag the last where not given.
    metric
        Figure on dev that the best checkpoint is chosen by, such as accuracy, f1 or matthews.
    patience
        Stop after so many evaluations in a row without a better one.
    layer_decay
        Factor on the learning rate from each block to the one below it.
    freeze
        Keep the embeddings and so many blocks, from the first, as they are.
    dropout
        Dropout inside the encoder; as its config.json says where not given.
    source
        For translate: suffix of the source files (PREFIX.en: en), or column of the source text in a table.
    target
        For translate: suffix of the target files, or column of the target text.
    start
        For translate: what starts from the weights of --model: both encoder and decoder, the encoder, or neither.
    decoder_layers
        For translate: blocks of the decoder; as many as the model has where not given.
    """
    from bertwright.recipes.finetune import finetune

    dials: dict[str, Any] = {
        "seed": seed,
        "schedule": _given(epochs=epochs),
        "optimizer": _given(learning_rate=learning_rate),
        "batches": _given(rows=rows, max_length=max_length),
        "columns": _given(text=text_column, pair=pair_column, label=label_column),
        "watch": _given(metric=metric, patience=patience),
        "transfer": _given(layer_decay=layer_decay, freeze=freeze, dropout=dropout),
    }
    if task == "translate":
        dials["translate"] = _given(source=source, target=target, start=start, decoder_layers=decoder_layers)
    settings = merge(_given(**dials), parse_overrides(overrides, verb="finetune"))
    finetune(task, model, train, dev, out, test=test, seeds=seeds, settings=settings)


def _given(**dials: Any) -> dict[str, Any]:
    return {name: value for name, value in dials.items() if value is not None}
