"""Declares the flags of `distill`, for the command line and Python alike, and turns them into settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Required, TypedDict

from bertwright.errors import UsageError
from bertwright.flags import Sets, dashed, set_by, settings_of_flags
from bertwright.verbs.calls.finetune_flags import FinetuneFlags, finetune_settings
from bertwright.verbs.calls.pretrain_flags import DURATIONS, PretrainFlags, pretrain_settings


def layers_given(given: Any) -> Any:
    """Return a number of blocks, or the blocks of a list such as "2,4,6"; raises UsageError."""
    if not isinstance(given, str):
        return given
    try:
        numbers = [int(one) for one in given.split(",") if one]
    except ValueError as error:
        raise UsageError(f"--layers {given} is no number and no list of blocks; give 4, or 2,4,6") from error
    return numbers if "," in given else numbers[0]


class DistillCall(TypedDict, total=False):
    """What a call of `distill` names beside its settings."""

    teacher: Required[list[Path]]
    """MODEL to learn from: pre-trained for pretrain, fine-tuned for a task. Given several times (tasks alone), the mean
    of their probabilities is learned."""
    out: Required[Path]
    """Folder of the run: settings, metrics, result.json, quality.png, and the student in OUT/model."""
    data: Path
    """pretrain: folder that `bertwright prepare` made with the teacher's tokenizer (--tokenizer MODEL)."""
    train: Path
    """Labelled examples, as `finetune` reads them."""
    dev: Annotated[Path, Sets(default="a fraction of --train, by a hash of its texts")]
    """Examples the best checkpoint is chosen on."""
    test: Path
    """Examples that are looked at once, at the end."""
    text: list[Path]
    """Texts without labels, which the teacher labels: a text a line, or a table, as `predict` reads them; with --train
    or in its place. Several times for several files."""
    student: Annotated[Path, Sets(default="made from the first teacher")]
    """MODEL the student starts from, such as OUT/model of `distill pretrain`; the teacher's tokenizer, or another for
    answers alone."""
    num_seeds: Annotated[int, Sets(default="1")]
    """Tasks: train so many seeds; keep the best on dev."""
    int8: bool
    """Tasks: export the student in 8-bit integers too, to OUT/int8, and show what that costs and brings; the same as
    export --model OUT/model --to onnx --quantize int8 --data DEV."""
    resume: bool
    """Go on with an interrupted run in OUT: give the same words, and this."""
    overwrite: bool
    """Replace the run in OUT; it is deleted when the new one is about to begin."""
    dry_run: bool
    """Write nothing: read models and files; show the settings and sizes of the run."""


class DistillFlags(TypedDict, total=False):
    """Settings under names of their own; every other is given as --SECTION.FIELD VALUE, as for finetune and pretrain.

    The settings of the distillation itself are --distill.FIELD.
    """

    layers: Annotated[int | str, Sets("distill.student.layers", "the teacher's", layers_given)]
    """Blocks of the student: a number, spread evenly over the teacher's, or those taken: 2,4,6 (one alone: 2,)."""
    width: Annotated[int, Sets("distill.student.width", "the teacher's")]
    """Units of the student's hidden states."""
    heads: Annotated[int, Sets("distill.student.heads", "of as many units as the teacher's")]
    """Attention heads of the student."""
    start: Annotated[Literal["projected", "noise"], Sets("distill.student.start", "projected")]
    """How a narrower student starts: projected (the teacher's matrices, fitted to fewer units on real rows), or
    noise."""
    temperature: Annotated[float, Sets("distill.temperature", "2")]
    """What logits are divided by."""
    logits: Annotated[float, Sets("distill.weights.logits", "1; pretrain 1 where the teacher predicts words")]
    """Weight of the teacher's answers."""
    labels: Annotated[float, Sets("distill.weights.labels", "0.5; pretrain 0")]
    """Weight of the labels, or of the words that are masked."""
    hidden: Annotated[float, Sets("distill.weights.hidden", "0; pretrain 1")]
    """Weight of the hidden states (TinyBERT)."""
    relations: Annotated[float, Sets("distill.weights.relations", "0; pretrain 1")]
    """Weight of the relations of queries, keys and values (MiniLMv2)."""
    attention: Annotated[float, Sets("distill.weights.attention", "0")]
    """Weight of the attention scores (TinyBERT); student and teacher need as many heads."""
    seed: Annotated[int, Sets(default="0")]
    """The first seed."""
    epochs: Annotated[float, Sets(default="3 for tasks")]
    """Passes over the rows."""
    minutes: Annotated[float, Sets(default="20 for pretrain")]
    """pretrain: train for this many minutes."""
    steps: int
    """pretrain: train for this many optimizer steps."""
    tokens: float
    """pretrain: train on this many tokens."""
    batch_size: Annotated[int | str, Sets(default="32")]
    """Rows a step. auto, for tasks: as many, computed in as few parts as fit into memory."""
    seq_length: Annotated[int, Sets(default="512 for tasks, 128 for pretrain")]
    """Longest row in tokens."""
    learning_rate: float
    """Peak learning rate."""
    warmup: Annotated[float, Sets(default="0.1")]
    """Fraction of the run in which the learning rate rises."""
    weight_decay: Annotated[float, Sets(default="0.01")]
    """Decoupled weight decay."""
    precision: Annotated[str, Sets(default="auto")]
    """bf16, fp16, fp32, or auto: bf16 where the hardware multiplies it, fp16 on GPUs that multiply that alone."""
    device: Annotated[str, Sets(default="auto")]
    """cpu, cuda, cuda:N, or auto: a GPU where there is one."""
    eval_every: int | str
    """Evaluate every so many steps (500) or minutes (2min), and at the end."""
    save_every: int | str
    """Save a checkpoint every so many steps, on top of every 5 minutes, or, given a time such as 2min, that often."""
    dropout: Annotated[float, Sets(default="0")]
    """Tasks: dropout inside the student."""
    dev_fraction: Annotated[float, Sets(default="0.1")]
    """Tasks: fraction of --train to hold out where there is no --dev."""
    text_column: str
    """Tasks: column of the text, or of the first text of a pair."""
    pair_column: str
    """Tasks: column of the second text of a pair."""
    label_column: str
    """Tasks: column of the label, score or tag."""
    multi_label: bool
    """classify: a text may have several labels, or none."""
    encoding: str
    """Tasks: encoding of the files; where not given, one other than UTF-8 is detected and reported."""
    metric: Annotated[str, Sets(default="that of the task")]
    """Tasks: figure on dev that the best checkpoint is chosen by."""
    patience: Annotated[int, Sets(default="never")]
    """Tasks: stop after so many evaluations in a row without a better one."""


PRETRAIN = "pretrain"
"""What stands in the place of a task where a student is pre-trained."""


def distill_settings(task: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that flags of DistillFlags stand for, those of the distillation as "distill".

    Raises UsageError where a flag is of no use to the task.

    >>> distill_settings("classify", {"layers": "2,4", "batch_size": 16})
    {'distill': {'student': {'layers': [2, 4]}}, 'batches': {'rows': 16}}
    """
    given = {name: value for name, value in flags.items() if value is not None}
    of_run = {name: value for name, value in given.items() if name not in set_of_distillation()}
    known: set[str] = set((PretrainFlags if task == PRETRAIN else FinetuneFlags).__annotations__)
    odd = next((name for name in of_run if name not in known), None)
    if odd is not None:
        who = "for a task" if task == PRETRAIN else "for pretrain"
        hint = "; a task is learned for --epochs" if odd in DURATIONS and task != PRETRAIN else ""
        raise UsageError(f"{dashed(odd)} is {who}; leave it out{hint}")
    settings = pretrain_settings(of_run) if task == PRETRAIN else finetune_settings(task, of_run)
    return settings_of_flags(DistillFlags, given) | settings


def set_of_distillation() -> set[str]:
    """Return the flags that set something of the distillation itself."""
    return {name for name, mark in set_by(DistillFlags).items() if mark.setting}
