"""Declares the flags of `pretrain`, for the command line and Python alike, and turns them into settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, Required, TypedDict

from bertwright.errors import UsageError
from bertwright.flags import Sets, settings_of_flags
from bertwright.nested import merge, nested
from bertwright.train.interval import Interval, More

DURATIONS = ("minutes", "steps", "tokens", "epochs")
AUTO = "auto"


def named_files(files: Path | str | Sequence[Path | str]) -> list[str]:
    """Return the names of files, or of one that stands alone, as a list."""
    return [str(file) for file in ([files] if isinstance(files, (str, Path)) else files)]


def amount_of(value: Any) -> Any:
    """Return the number that is written; what is none as it is, for the settings to refuse.

    >>> amount_of("500"), amount_of("2.5"), amount_of("many")
    (500, 2.5, 'many')
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return int(number) if number.is_integer() else number


class PretrainCall(TypedDict, total=False):
    """What a call of `pretrain` names beside its settings."""

    data: Annotated[list[Path], Sets(default="that of --plan")]
    """Folder that `bertwright prepare` made. Given several times, rows of all are mixed; they must have been made with
    the same tokenizer (prepare --tokenizer)."""
    out: Required[Path]
    """Folder of the run: settings, metrics, checkpoints, report.html, and the model in OUT/model; of ModernBERT with
    --objective.next-sentence true also that head, in OUT/model-nsp."""
    mixture: Annotated[str, Sets(default="by their tokens")]
    """Fraction of the rows from each --data, in their order, such as 0.7,0.3."""
    plan: Annotated[Path, Sets(default="none")]
    """File of `bertwright plan --out`: it names data, recipe, size and minutes. Flags given beside it count."""
    recipe: Annotated[Path, Sets(default="classic-fast; adapt with --init-from")]
    """classic-fast (2018's model and objectives, started from the corpus), classic (as published), classic-muon, fast
    (ModernBERT, masked words alone), adapt (to go on from a model), or a TOML file of your own; see `bertwright show
    recipes`."""
    init_from: Annotated[Path, Sets(default="a new model")]
    """Go on from this model instead of a new one: a Hugging Face folder, ours or another's. It decides architecture and
    shape; the data must have been prepared with its tokenizer (prepare --tokenizer MODEL), also one with
    pieces added, or another that knows it."""
    resume: bool
    """Go on with the run in OUT from its last checkpoint. With --steps +N (or --minutes, --tokens, --epochs) extend a
    finished run whose learning rate was held, as that of adapt is, from before its decay."""
    overwrite: bool
    """Replace the run in OUT; it is deleted when the new one is about to begin."""
    dry_run: bool
    """Write nothing: show the settings, the size of the model, how much disk the run takes, and what it would do."""


class PretrainFlags(TypedDict, total=False):
    """Settings of a run under names of their own; every other is given as --SECTION.FIELD VALUE."""

    size: Annotated[str, Sets("size")]
    """tiny 2/128, mini 4/256, small 4/512, medium 8/512, base 12/768, large 24/1024 (layers/width); for the
    architecture of fast, base is 22/768 and large 28/1024."""
    layers: Annotated[int, Sets("model.layers", "as the size says")]
    """Transformer blocks."""
    width: Annotated[int, Sets("model.hidden_size", "as the size says")]
    """Units of the hidden states; heads have 64 of them, and the inner layer grows in proportion."""
    heads: Annotated[int, Sets("model.heads", "width / 64")]
    """Attention heads of a block."""
    new_vectors: Annotated[Literal["mean", "neighbours"], Sets("model.new_vectors", "mean")]
    """With --init-from and data of another vocabulary (prepare --extend-vocab, --new-tokenizer): new tokens begin as
    the mean of the old tokens of their text, or of kept words that are their neighbours in the data."""
    minutes: Annotated[str | float, Sets("schedule.minutes", read=amount_of)]
    """Train for this many minutes; the learning rate is annealed to zero at their end. Of this and the next three, +N
    with --resume makes a finished run so much longer."""
    steps: Annotated[str | int, Sets("schedule.steps", read=amount_of)]
    """Train for this many optimizer steps."""
    tokens: Annotated[str | float, Sets("schedule.tokens", read=amount_of)]
    """Train on this many tokens."""
    epochs: Annotated[str | float, Sets("schedule.epochs", read=amount_of)]
    """Train for this many passes over the data."""
    batch_size: Annotated[int | str, Sets("schedule.rows", read=amount_of)]
    """Rows a step, all micro-batches together; for recipes whose phases have the same number. auto: those of the
    recipe, computed in as few parts as fit into memory (--engine.parts)."""
    seq_length: Annotated[int, Sets("schedule.length")]
    """Tokens a row, special ones included; for recipes whose phases have the same number."""
    learning_rate: Annotated[float, Sets("optimizer.learning_rate")]
    """Peak learning rate of AdamW; where Muon trains the hidden matrices, of all other weights."""
    muon_learning_rate: Annotated[float, Sets("optimizer.muon_learning_rate")]
    """Peak learning rate of Muon."""
    warmup: Annotated[float, Sets("schedule.warmup")]
    """Fraction of the run in which the learning rate rises, such as 0.05."""
    weight_decay: Annotated[float, Sets("optimizer.weight_decay")]
    """Weight decay of AdamW; that of Muon is --optimizer.muon-weight-decay."""
    mask_rate: Annotated[float, Sets("objective.mask_rate")]
    """Fraction of a row's tokens that are masked, the same throughout the run."""
    accumulation: Annotated[int, Sets("engine.accumulation", "1")]
    """Micro-batches a step is computed in, one after another: less memory."""
    precision: Annotated[str, Sets("engine.precision", "auto")]
    """bf16, fp32, or auto: bf16 where the hardware multiplies it."""
    device: Annotated[str, Sets("engine.device", "auto")]
    """cpu, cuda, cuda:N, or auto: a GPU where there is one."""
    eval_every: Annotated[int | str, Sets("engine.evaluate_every", "5% of the run's work: 1 to 20 times")]
    """Evaluate on held-out rows every so many steps (500) or minutes (2min; also s and h), and at the end."""
    save_every: int | str
    """Save a checkpoint every so many steps, on top of every 5 minutes, or, given a time such as 2min, that often."""
    snapshots: Annotated[int, Sets("engine.snapshots", "none")]
    """Keep so many models of the way in OUT/snapshots, to look at with inspect: before the first step, then each at
    twice the progress of the one before, the last at half of the run."""
    probe: Annotated[list[Path], Sets("engine.probes", read=named_files)]
    """At each evaluation measure, too, what the model knows by this file: minimal pairs (JSON lines of "good" and
    "bad", such as BLiMP's), or labelled texts, which a logistic regression over the frozen encoder tells apart. Can be
    given several times."""
    general: Annotated[Path, Sets("engine.general", read=str)]
    """DATA folder of general text, prepared with the same tokenizer: evaluated too, not trained on, to see what a run
    on a domain forgets."""
    track: Annotated[Literal["tensorboard", "wandb", "mlflow"], Sets("engine.track", "none")]
    """Write the lines of metrics.jsonl as curves too, offline, into the run's folder; needs bertwright[track]."""
    seed: Annotated[int, Sets("seed", "0")]
    """Seed of everything random."""


def pretrain_settings(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that flags of PretrainFlags stand for; raises UsageError where they exclude each other.

    >>> pretrain_settings({"size": "tiny", "batch_size": 16, "save_every": "2min"})
    {'size': 'tiny', 'schedule': {'rows': 16}, 'engine': {'checkpoint_minutes': 2.0}}
    >>> pretrain_settings({"batch_size": "auto"})
    {'engine': {'parts': 'auto'}}
    """
    given = [name for name in DURATIONS if flags.get(name) is not None]
    if len(given) > 1:
        raise UsageError(f"give one of --minutes, --steps, --tokens and --epochs, not {len(given)} of them")
    rows = flags.get("batch_size")
    settings = settings_of_flags(PretrainFlags, {**flags, "batch_size": None if rows == AUTO else rows})
    if rows == AUTO:
        settings = merge(settings, nested("engine.parts", AUTO))
    if flags.get("mask_rate") is not None:
        settings = merge({"objective": {"final_mask_rate": None, "mask_phases": ()}}, settings)
    return merge(settings, save_every_settings("engine", flags.get("save_every")))


def more_of(flags: Mapping[str, Any]) -> tuple[dict[str, Any], More | None]:
    """Return the flags without a duration such as "+60", and that as what a finished run is to be extended by.

    >>> more_of({"size": "tiny", "steps": "+100"})
    ({'size': 'tiny'}, More(unit='steps', amount=100.0))
    """
    plus = [name for name in DURATIONS if str(flags.get(name) or "").lstrip().startswith("+")]
    rest = {name: value for name, value in flags.items() if name not in plus}
    if not plus:
        return rest, None
    unit = plus[0]
    amount = amount_of(flags[unit])
    if len(plus) > 1 or any(rest.get(name) is not None for name in DURATIONS):
        raise UsageError(f"--{unit} {flags[unit]} extends a run in one unit; leave out the other durations")
    if not isinstance(amount, (int, float)) or not 0 < amount < inf or (unit == "steps" and amount != int(amount)):
        what = "whole steps" if unit == "steps" else unit
        raise UsageError(f"--{unit} {flags[unit]}: give how many {what} more, such as --{unit} +100")
    return rest, More(unit, float(amount))


def shares_given(mixture: str | Sequence[float] | None) -> Sequence[float] | None:
    """Return the numbers of a list such as "0.7,0.3"; raises UsageError where it is none."""
    try:
        return [float(weight) for weight in mixture.split(",")] if isinstance(mixture, str) else mixture
    except ValueError as error:
        raise UsageError(f"--mixture {mixture} is no list of numbers; give one such as 0.7,0.3") from error


def save_every_settings(section: str, every: int | str | None) -> dict[str, Any]:
    """Return what --save-every sets in a section: steps beside the usual minutes, or other minutes."""
    if every is None:
        return {}
    try:
        interval = Interval.parse(every)
    except ValueError as error:
        raise UsageError(f"--save-every {every} {error}") from error
    if interval.steps is not None:
        return nested(f"{section}.checkpoint_steps", interval.steps)
    return nested(f"{section}.checkpoint_minutes", interval.seconds / 60)
