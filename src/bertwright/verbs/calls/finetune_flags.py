"""Declares the flags of `finetune`, for the command line and Python alike, and turns them into settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Required, TypedDict

from bertwright.errors import ConfigError, UsageError
from bertwright.flags import Sets, dashed, settings_of_flags
from bertwright.nested import merge, nested, read_toml
from bertwright.verbs.calls.pretrain_flags import save_every_settings

OF_TRANSLATE = ("source", "target", "init_parts", "decoder_layers")
OF_EMBED = ("hard_negatives", "matryoshka")
RATES = "3e-5 x (768 / width)^2; translate 1e-4 x (768 / width)^2"
"""Default learning rates, of models of up to 768 units: see `usual_rate` in finetune_config.py."""


def listed(value: Any) -> Any:
    """Return the names of a list such as "O,B-PER"."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def weights_given(given: Any) -> Any:
    """Return "balanced", or weights by name from NAME=WEIGHT,NAME=WEIGHT; raises UsageError."""
    if given == "balanced" or not isinstance(given, str):
        return given
    pairs = [pair.rpartition("=") for pair in given.split(",")]
    if not all(name and weight for name, _, weight in pairs):
        raise UsageError(f"--class-weights {given} is neither balanced nor NAME=WEIGHT,NAME=WEIGHT; fix it")
    return {name: weight for name, _, weight in pairs}


def numbers_given(value: Any) -> Any:
    """Return the numbers of a list such as "256,128"; raises UsageError where one is none."""
    if not isinstance(value, str):
        return value
    if not all(one.strip().isdecimal() for one in value.split(",")):
        raise UsageError(f"--matryoshka {value} should be numbers of units with commas between, such as 256,128,64")
    return [int(one) for one in value.split(",")]


class FinetuneCall(TypedDict, total=False):
    """What a call of `finetune` names beside its settings."""

    model: Required[Path]
    """Hugging Face folder of an encoder to start from, pre-trained or already fine-tuned for something else."""
    train: Required[Path]
    """Labelled examples: .tsv, .csv, .jsonl or .parquet; for tag also CoNLL, a word a line; for answer SQuAD .json, or
    a question a row; for translate two files with equal numbers of lines, SOURCE,TARGET, or PREFIX with --source and
    --target, or a table of two columns; for embed also a .txt file, a text a line."""
    dev: Annotated[Path, Sets(default="a fraction of the training file, by a hash of its texts")]
    """Examples the best checkpoint is chosen on."""
    test: Path
    """Examples that are looked at once, at the end; without labels, predictions are written to OUT."""
    out: Required[Path]
    """Folder of the run: settings, metrics, report.html, and the model in OUT/model."""
    recipe: Annotated[Path, Sets(default="none")]
    """TOML file of settings, such as recipe.toml of `bertwright tune` or config.toml of a run; flags count more."""
    resume: bool
    """Go on with an interrupted run in OUT, as if nothing had been: give the same words, and this."""
    num_seeds: Annotated[int, Sets(default="1")]
    """Train so many seeds; report mean and standard deviation, and keep the best on dev."""
    folds: Annotated[int, Sets("split.folds", "none")]
    """Cross-validation in place of --dev: so many parts, each predicted by a model trained on the others; mean and
    deviation are reported, and the model that is written is trained on all of the training file."""
    suspects: bool
    """classify, with --folds: list the examples whose label the other folds doubt in OUT/suspects.jsonl."""
    overwrite: bool
    """Replace the run in OUT; it is deleted when the new one is about to begin."""
    dry_run: bool
    """Write nothing: read model and files; show the settings, how many examples and steps there are, and the disk."""


class FinetuneFlags(TypedDict, total=False):
    """Settings of a run under names of their own; every other is given as --SECTION.FIELD VALUE."""

    dev_fraction: Annotated[float, Sets("split.dev_fraction", "0.1")]
    """Fraction of the training file to hold out where there is no --dev. Classes keep their fractions, equal texts (for
    answer and choose, questions about one context) stay on one side."""
    seed: Annotated[int, Sets("seed", "0")]
    """The first seed."""
    epochs: Annotated[float, Sets("schedule.epochs", "3; translate 10")]
    """Passes over the training file."""
    batch_size: Annotated[int | str, Sets("batches.rows", "32; translate and embed 64")]
    """Examples a step; fewer where they have more than --batches.tokens together. auto: as many as usual, computed in
    as few micro-batches as fit into memory (--accumulation auto)."""
    seq_length: Annotated[int, Sets("batches.max_length", "512; translate 256 on either side")]
    """Longest row in tokens, and never more than the model reads."""
    learning_rate: Annotated[float, Sets("optimizer.learning_rate", RATES)]
    """Peak learning rate."""
    warmup: Annotated[float, Sets("schedule.warmup", "0.1")]
    """Fraction of the run in which the learning rate rises."""
    weight_decay: Annotated[float, Sets("optimizer.weight_decay", "0.01")]
    """Decoupled weight decay; never on biases and LayerNorms."""
    accumulation: Annotated[int | str, Sets("engine.accumulation", "1")]
    """Micro-batches a step is computed in, one after another: less memory, the same model but for rounding."""
    recompute: Annotated[bool, Sets("engine.recompute")]
    """Compute blocks again in the backward pass instead of keeping what they computed: less memory for long rows and
    large steps, about a third more time, the same model but for rounding."""
    precision: Annotated[str, Sets("precision", "auto")]
    """bf16, fp32, or auto: bf16 where the hardware multiplies it. A finished model is evaluated in fp32."""
    device: Annotated[str, Sets("engine.device", "auto")]
    """cpu, cuda, cuda:N, or auto: a GPU where there is one."""
    eval_every: Annotated[int | str, Sets("watch.evaluate_every", "once an epoch")]
    """Evaluate on dev every so many steps (500) or minutes (2min; also s and h), and at the end."""
    save_every: int | str
    """Save a checkpoint every so many steps, on top of every 5 minutes, or, given a time such as 2min, that often."""
    track: Annotated[Literal["tensorboard", "wandb", "mlflow"], Sets("watch.track", "none")]
    """Write the lines of metrics.jsonl as curves too, offline, into the run's folder; needs bertwright[track]."""
    text_column: Annotated[str, Sets("columns.text", "found by its name")]
    """Column of the text, or of the first text of a pair. Without a header: 1, 2 ..."""
    pair_column: Annotated[str, Sets("columns.pair", "found by its name")]
    """Column of the second text of a pair."""
    label_column: Annotated[str, Sets("columns.label", "found by its name; tag: the last")]
    """Column of the label, score or tag; with --multi-label also A,B,C: a column each."""
    multi_label: Annotated[bool, Sets("head.multi_label")]
    """classify: a text may have several labels, or none: a list in JSON, several with a separator between them in one
    column, or a column for each label with 0 and 1."""
    label_separator: Annotated[str, Sets("columns.label_separator", "found in the file: | ; ,")]
    """What stands between labels in one column."""
    label_names: Annotated[str, Sets("columns.label_names", "as the file says", listed)]
    """tag: what numbers stand for as tags, from 0 on, such as O,B-PER,I-PER."""
    encoding: str
    """Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is detected and
    reported."""
    class_weights: Annotated[str, Sets("head.class_weights", read=weights_given)]
    """classify, tag: balanced (the rarer a class, the more it counts), or weights by name, such as good=1,bad=2.5."""
    windows: Annotated[Literal["max", "mean", "attention"], Sets("head.windows", "none: long texts are cut")]
    """classify: read all of a text longer than a row, in windows, whose scores become one in this way."""
    crf: Annotated[bool, Sets("head.crf")]
    """tag: put a conditional random field above the tags, so that they follow one another as their scheme allows."""
    positive: Annotated[str, Sets("head.positive", "the second in order")]
    """classify of two classes: the one whose F1 is reported, such as spam."""
    metric: Annotated[str, Sets("watch.metric", "that of the task")]
    """Figure on dev that the best checkpoint is chosen by, such as accuracy, f1 or matthews."""
    patience: Annotated[int, Sets("watch.patience", "never")]
    """Stop after so many evaluations in a row without a better one."""
    layer_decay: Annotated[float, Sets("transfer.layer_decay", "1")]
    """Factor on the learning rate from each block to the one below it."""
    freeze_layers: Annotated[int | Literal["all"], Sets("transfer.freeze", "0")]
    """Keep the embeddings and so many blocks, from the first, as they are; all leaves the head to learn alone."""
    unfreeze: Annotated[float, Sets("transfer.unfreeze", "0")]
    """Unfreeze block after block, from the last to the first, over this fraction of the run, such as 0.5."""
    lora_rank: Annotated[int, Sets("transfer.lora_rank", "0: none")]
    """Train low-rank adapters of this rank, such as 8, instead of the encoder; they are merged into what is written."""
    lora_alpha: Annotated[float, Sets("transfer.lora_alpha", "16")]
    """What they are multiplied by, times 1 / rank."""
    lora_matrices: Annotated[str, Sets("transfer.lora_matrices", "query,value", listed)]
    """Matrices of each block that have them, of query, key, value, output, inner."""
    r_drop: Annotated[float, Sets("transfer.r_drop", "0: off")]
    """Weight of R-Drop, such as 1: every batch is computed twice, and its two draws of dropout should agree."""
    few_shot: Annotated[bool, Sets("transfer.few_shot")]
    """classify, from tens of examples: first compare them with one another, so that each class has vectors of its own,
    and fit the head to these, as SetFit does."""
    dropout: Annotated[float, Sets("transfer.dropout", "as config.json says")]
    """Dropout inside the encoder."""
    hard_negatives: Annotated[int, Sets("embed.hard_negatives", "0: none")]
    """embed, from pairs: mine so many texts near each first one, such as 3, that are not paired with it."""
    matryoshka: Annotated[str, Sets("embed.dimensions", "none", numbers_given)]
    """embed: train the first units of vectors to do as well as all of them, such as 256,128,64."""
    source: Annotated[str, Sets("translate.source")]
    """translate: suffix of the source files (PREFIX.en: en), or column of the source text in a table."""
    target: Annotated[str, Sets("translate.target")]
    """translate: suffix of the target files, or column of the target text."""
    init_parts: Annotated[Literal["both", "encoder", "neither"], Sets("translate.start", "both")]
    """translate: what starts from the weights of --model: both encoder and decoder, the encoder, or neither."""
    decoder_layers: Annotated[int, Sets("translate.decoder_layers", "as many as the model has")]
    """translate: blocks of the decoder."""


def recipe_settings(recipe: Path | None, task: str, *, has_dev: bool) -> dict[str, Any]:
    """Return the settings of a recipe file of a task, {} where there is none; raises ConfigError for another task.

    With a dev file, how much of the training file is held out says nothing.
    """
    settings = {} if recipe is None else read_toml(recipe)
    of = settings.pop("task", task)
    if of != task:
        raise ConfigError(f"{recipe} is a recipe for {of}, not for {task}; give one for {task}, or finetune {of}")
    if has_dev:
        settings.pop("split", None)
    return settings


def finetune_settings(task: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that flags of FinetuneFlags stand for; raises UsageError where `task` has no use for one.

    >>> finetune_settings("tag", {"crf": True, "batch_size": 16, "label_names": "O,B-PER"})
    {'head': {'crf': True}, 'batches': {'rows': 16}, 'columns': {'label_names': ['O', 'B-PER']}}
    >>> finetune_settings("classify", {"batch_size": "auto"})
    {'engine': {'accumulation': 'auto'}}
    """
    given = {name: value for name, value in flags.items() if value is not None}
    odd = next((name for name in OF_TRANSLATE if name in given), None)
    if odd is not None and task != "translate":
        raise UsageError(f"{dashed(odd)} is for translate; {task} has no use for it, so leave it out")
    odd = next((name for name in OF_EMBED if name in given), None)
    if odd is not None and task != "embed":
        raise UsageError(f"{dashed(odd)} is for embed; {task} has no use for it, so leave it out")
    if given.get("batch_size") == "auto":
        given = {"accumulation": "auto"} | {name: value for name, value in given.items() if name != "batch_size"}
    settings = settings_of_flags(FinetuneFlags, given)
    if "encoding" in given:
        section = "translate" if task == "translate" else "columns"
        settings = merge(settings, nested(f"{section}.encoding", given["encoding"]))
    return merge(settings, save_every_settings("watch", given.get("save_every")))


def fold_settings(folds: int | None, *, suspects: bool) -> dict[str, Any]:
    """Return the settings that --folds and --suspects stand for, where they are given."""
    split = {} if folds is None else {"split": {"folds": folds}}
    return split | ({"watch": {"suspects": True}} if suspects else {})


def require_one_split(dev: Path | str | None, settings: Mapping[str, Any], *, seeds: int) -> None:
    """Raise UsageError where a call says in two ways what is evaluated on."""
    split = settings.get("split", {})
    if dev is not None and split:
        flag = "--folds" if split.get("folds") else "--dev-fraction"
        raise UsageError(f"--dev and {flag} cannot both be given; leave one out")
    if split.get("folds") and (seeds > 1 or "dev_fraction" in split):
        raise UsageError("--folds holds out every part in turn; give it without --num-seeds and --dev-fraction")
