"""The verb `finetune`: turns flags into settings and calls the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from bertwright.cli.overrides import parse_overrides
from bertwright.config import merge
from bertwright.errors import UsageError


def finetune_command(
    task: str,
    *overrides: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    model: Path,
    train: Path,
    dev: Path | None = None,
    test: Path | None = None,
    out: Path,
    dev_fraction: float | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    seeds: int = 1,
    seed: int | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    rows: int | None = None,
    max_length: int | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    multi_label: Annotated[bool | None, Parameter(negative="")] = None,
    label_separator: str | None = None,
    label_names: str | None = None,
    encoding: str | None = None,
    class_weights: str | None = None,
    crf: Annotated[bool | None, Parameter(negative="")] = None,
    positive: str | None = None,
    metric: str | None = None,
    patience: int | None = None,
    layer_decay: float | None = None,
    freeze: str | None = None,
    unfreeze: float | None = None,
    lora_rank: int | None = None,
    lora_alpha: float | None = None,
    lora_matrices: str | None = None,
    r_drop: float | None = None,
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
    dev_fraction
        That share, where there is no --dev; 0.1 where not given. Classes keep their shares, equal texts (for answer and
        choose, questions about one context) stay on one side.
    resume
        Go on with an interrupted run in OUT, as if nothing had been: give the same words, and this.
    seeds
        Train so many times and tell mean and spread; the best on dev is kept.
    seed
        The first of them.
    epochs
        Passes over the training file; 3 where not given, 10 for translate.
    learning_rate
        Peak learning rate; 3e-5 x 768 / width of the model where not given, for translate 1e-4 x (768 / width) squared.
    rows
        Examples a step; 32 where not given, 64 for translate and embed.
    max_length
        Longest row in tokens; 512 where not given (translate: 256 on either side), and never more than the model reads.
    text_column
        Column of the text, or of the first text of a pair; told by its name where not given. Without a header: 1, 2 ...
    pair_column
        Column of the second text of a pair.
    label_column
        Column of the label, score or tag; for tag the last where not given; with --multi-label also A,B,C: a column
        each.
    multi_label
        classify: a text may have several labels, or none: a list in JSON, several with a separator between them in one
        column, or a column for each label with 0 and 1.
    label_separator
        What stands between labels in one column; found in the file (| ; ,) where not given.
    label_names
        tag: what numbers stand for as tags, from 0 on, such as O,B-PER,I-PER; as the file says where not given.
    encoding
        Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is found and said.
    class_weights
        classify, tag: balanced (the rarer a class, the more it counts), or weights by name, such as good=1,bad=2.5.
    crf
        tag: put a conditional random field above the tags, so that they follow one another as their scheme allows.
    positive
        classify of two classes: the one whose F1 is reported, such as spam; the second in order where not given.
    metric
        Figure on dev that the best checkpoint is chosen by, such as accuracy, f1 or matthews.
    patience
        Stop after so many evaluations in a row without a better one.
    layer_decay
        Factor on the learning rate from each block to the one below it.
    freeze
        Keep the embeddings and so many blocks, from the first, as they are; all leaves the head to learn alone.
    unfreeze
        Thaw block after block, from the last to the first, over this share of the run, such as 0.5.
    lora_rank
        Train low-rank adapters of this rank, such as 8, instead of the encoder; they are merged into what is written.
    lora_alpha
        What they are multiplied by, times 1 / rank; 16 where not given.
    lora_matrices
        Matrices of each block that have them: of query, key, value, output, inner; query,value where not given.
    r_drop
        Weight of R-Drop, such as 1: every batch is seen twice, and its two draws of dropout should agree.
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
    from bertwright.verbs.finetune import finetune

    dials: dict[str, Any] = {
        "seed": seed,
        "schedule": _given(epochs=epochs),
        "split": _given(dev_fraction=dev_fraction) or None,
        "optimizer": _given(learning_rate=learning_rate),
        "batches": _given(rows=rows, max_length=max_length),
        "columns": _given(
            text=text_column,
            pair=pair_column,
            label=label_column,
            label_separator=label_separator,
            label_names=None if label_names is None else [name.strip() for name in label_names.split(",")],
        ),
        "head": _given(multi_label=multi_label, class_weights=_weights(class_weights), crf=crf, positive=positive),
        "watch": _given(metric=metric, patience=patience),
        "transfer": _given(
            layer_decay=layer_decay,
            freeze=int(freeze) if freeze is not None and freeze.isdigit() else freeze,
            unfreeze=unfreeze,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            lora_matrices=None if lora_matrices is None else lora_matrices.split(","),
            r_drop=r_drop,
            dropout=dropout,
        ),
    }
    own = _given(source=source, target=target, start=start, decoder_layers=decoder_layers)
    if encoding is not None:
        (own if task == "translate" else dials["columns"])["encoding"] = encoding
    if task != "translate" and own:
        odd = next(iter(own)).replace("_", "-")
        raise UsageError(f"--{odd} is for translate; {task} has no use for it, so leave it out")
    if own:
        dials["translate"] = own
    settings = merge(_given(**dials), parse_overrides(overrides, verb="finetune"))
    finetune(task, model, train, dev, out, test=test, seeds=seeds, resume=resume, settings=settings)


def _given(**dials: Any) -> dict[str, Any]:
    return {name: value for name, value in dials.items() if value is not None}


def _weights(told: str | None) -> str | dict[str, str] | None:
    """Return "balanced", or weights by name from NAME=WEIGHT,NAME=WEIGHT; raises UsageError."""
    if told is None or told == "balanced":
        return told
    parts = [part.rpartition("=") for part in told.split(",")]
    if not all(name and weight for name, _, weight in parts):
        raise UsageError(f"--class-weights {told} is neither balanced nor NAME=WEIGHT,NAME=WEIGHT; fix it")
    return {name: weight for name, _, weight in parts}
