"""Turns the named flags of a verb into nested settings: one declaration serves the command line and the Python API.

The flags of a verb that stand for settings are a TypedDict (`verbs/calls/`): the name of a field is the flag, its
docstring the help, and `Sets` names the setting. The command line reads that class, and the Python function takes
`**flags: Unpack[...]` of it. Names of earlier versions go on working, from one table.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from bertwright.config import merge
from bertwright.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
EARLIER: dict[str, dict[str, str]] = {
    "prepare": {"held_out": "valid_fraction", "documents": "document_boundary"},
    "doctor": {"documents": "document_boundary"},
    "finetune": {
        "rows": "batch_size",
        "max_length": "seq_length",
        "seeds": "num_seeds",
        "start": "init_parts",
        "freeze": "freeze_layers",
    },
    "evaluate": {"rows": "num_rows"},
    "show": {"rows": "num_rows"},
}
"""Flags by their names in earlier versions, which go on working, verb by verb."""
WITHOUT_EFFECT = {"doctor": ("as_json",)}
"""Parameters of Python functions in earlier versions that chose what was printed."""
BATCH, LENGTH, ACCUMULATION = ("batch_size",), ("seq_length",), ("accumulation",)
HUGGING_FACE: dict[str, tuple[str, ...]] = {
    "per_device_train_batch_size": BATCH, "per_gpu_train_batch_size": BATCH, "train_batch_size": BATCH,
    "max_seq_length": LENGTH, "max_seq_len": LENGTH, "max_length": LENGTH, "block_size": LENGTH,
    "model_max_length": LENGTH, "max_source_length": LENGTH, "pad_to_max_length": (),
    "gradient_accumulation_steps": ACCUMULATION, "gradient_accumulation": ACCUMULATION,
    "num_train_epochs": ("epochs",), "num_epochs": ("epochs",), "max_steps": ("steps", "epochs"),
    "max_train_steps": ("steps", "epochs"), "lr": ("learning_rate",), "peak_lr": ("learning_rate",),
    "warmup_ratio": ("warmup",), "warmup_steps": ("warmup",), "num_warmup_steps": ("warmup",),
    "mlm_probability": ("mask_rate",), "masking_prob": ("mask_rate",), "fp16": ("precision",), "bf16": ("precision",),
    "tf32": ("precision",), "mixed_precision": ("precision",), "no_cuda": ("device",), "use_cpu": ("device",),
    "output_dir": ("out",), "overwrite_output_dir": ("overwrite",), "output_file": ("output", "out"),
    "model_name_or_path": ("model", "size"), "model_name": ("model", "size"), "config_name": ("size",),
    "tokenizer_name": ("tokenizer", "data", "model"), "tokenizer_file": ("tokenizer",),
    "train_file": ("train", "data"), "train_data_file": ("train", "data"), "dataset_name": ("train", "data"),
    "validation_file": ("dev", "valid"), "eval_file": ("dev", "data"), "test_file": ("test", "input"),
    "validation_split_percentage": ("dev_fraction", "valid_fraction"), "task_name": ("task",),
    "logging_steps": ("engine.log_every", "watch.log_every"), "eval_steps": ("eval_every",),
    "save_steps": ("save_every",), "checkpointing_steps": ("save_every",), "save_total_limit": ("engine.keep",),
    "resume_from_checkpoint": ("resume",), "optim": ("optimizer.name",), "adam_beta1": ("optimizer.beta1",),
    "adam_beta2": ("optimizer.beta2",), "adam_epsilon": ("optimizer.eps",), "max_grad_norm": ("optimizer.clip_norm",),
    "lr_scheduler_type": ("schedule.decay",), "label_smoothing_factor": ("translate.smoothing",),
    "num_hidden_layers": ("layers",), "num_layers": ("layers",), "hidden_size": ("width",),
    "num_attention_heads": ("heads",), "num_heads": ("heads",), "early_stopping_patience": ("patience",),
    "metric_for_best_model": ("metric",), "text_column_name": ("text_column", "column"),
    "label_column_name": ("label_column",), "torch_compile": ("engine.compile",), "do_lower_case": ("cased",),
    "preprocessing_num_workers": ("workers",), "num_proc": ("workers",), "report_to": ("track",),
    "per_device_eval_batch_size": (), "eval_batch_size": (), "dataloader_num_workers": (), "do_train": (),
    "do_eval": (), "do_predict": (), "evaluation_strategy": ("eval_every",), "eval_strategy": ("eval_every",),
    "save_strategy": ("save_every",), "gradient_checkpointing": (), "load_best_model_at_end": (),
}  # fmt: skip
"""Flags of Hugging Face's scripts, and what we call each, the first that a verb has; () where a verb needs none."""
SECTIONS = {
    "pretrain": {"model", "data", "objective", "optimizer", "schedule", "average", "guard", "engine"},
    "finetune": {"columns", "head", "batches", "engine", "schedule", "optimizer", "transfer", "watch", "translate"},
}  # fmt: skip
"""Sections of the settings of a verb, for what Hugging Face has a flag for and we have a setting."""
ONE_VERB_ALONE = {"engine.log_every": "pretrain", "engine.keep": "pretrain", "schedule.decay": "pretrain"}
"""Settings among those of HUGGING_FACE that stand in a section of this verb alone."""


@dataclass(frozen=True)
class Sets:
    """Marks a flag, in its annotation, with the setting it stands for; `default` says in words what holds without it.

    Where a recipe has the setting, its value there is the default.
    """

    setting: str
    default: str | None = None


def set_by(kind: type) -> dict[str, Sets]:
    """Return what each flag of a TypedDict sets, for those that stand for one setting."""
    found = {}
    for name, annotation in get_type_hints(kind, include_extras=True).items():
        for mark in get_args(annotation)[1:]:
            if isinstance(mark, Sets):
                found[name] = mark
    return found


def settings_of_flags(kind: type, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested settings of the flags given, of those that stand for one setting; None is not given."""
    marks, settings = set_by(kind), dict[str, Any]()
    for name, value in flags.items():
        if value is not None and name in marks:
            settings = merge(settings, nested(marks[name].setting, value))
    return settings


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """Return a value under a dotted name as nested mappings.

    >>> nested("optimizer.learning_rate", 0.1)
    {'optimizer': {'learning_rate': 0.1}}
    """
    for name in reversed(dotted.split(".")):
        value = {name: value}
    return dict(value)


def with_flags(verb: str, kind: type | None = None) -> Callable[[F], F]:
    """Return a decorator for the Python function of a verb that knows flags by their earlier names too.

    Its signature, which help() shows, has the flags of `kind` one by one. Raises UsageError, naming the nearest flag,
    where it is called with one that does not exist.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        flags = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=plain(annotation))
            for name, annotation in (get_type_hints(kind, include_extras=True) if kind else {}).items()
        ]
        known = {one.name for one in (*own, *flags)}

        @wraps(function)
        def renamed(*arguments: Any, **named: Any) -> Any:
            for name, now in EARLIER.get(verb, {}).items():
                if name in named:
                    if now in named:
                        raise UsageError(f"{now} is given twice: {name} is its earlier name, so leave that out")
                    named[now] = named.pop(name)
            for name in WITHOUT_EFFECT.get(verb, ()):
                named.pop(name, None)
            for name in named.keys() - known:
                raise UsageError(f"{verb} has no {name}; {advice(verb, name, known, spelled=str)}")
            return function(*arguments, **named)

        renamed.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
        return cast(F, renamed)

    return decorate


def plain(annotation: Any) -> Any:
    """Return an annotation without its marks."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def advice(verb: str, name: str, known: Collection[str], *, spelled: Callable[[str], str]) -> str:
    """Return what to give instead of a flag `name` that `verb` does not have, of those `known`, as a call writes it.

    `spelled` turns a flag such as "batch_size" into what a user writes.
    """
    name = name.replace("-", "_")
    for ours in HUGGING_FACE.get(name, ()):
        section = ours.partition(".")[0] if "." in ours else ""
        if ours in known or (section in SECTIONS.get(verb, ()) and ONE_VERB_ALONE.get(ours, verb) == verb):
            return f"give {spelled(ours)} instead{MEANINGS.get(name, '')}"
    if HUGGING_FACE.get(name) == ():
        return "nothing has to be given for it, so leave it out"
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {spelled(near[0])}?" if near else ""


MEANINGS = {
    "fp16": ", with bf16, fp32 or auto",
    "bf16": ", with bf16, fp32 or auto",
    "mixed_precision": ", with bf16, fp32 or auto",
    "no_cuda": ", with cpu",
    "use_cpu": ", with cpu",
    "warmup_steps": ", a share of the run such as 0.05",
    "num_warmup_steps": ", a share of the run such as 0.05",
    "validation_split_percentage": ", a share such as 0.05",
    "do_lower_case": ", which keeps capitals; without it they are lowered",
}
"""What a flag of ours takes, where that differs from the one of Hugging Face."""


def from_earlier(verb: str, words: list[str]) -> list[str]:
    """Return the arguments of a call with flags of earlier versions under the names they have now.

    >>> from_earlier("finetune", ["classify", "--rows=8", "--seeds", "3"])
    ['classify', '--batch-size=8', '--num-seeds', '3']
    """
    names = {dashed(old): dashed(new) for old, new in EARLIER.get(verb, {}).items()}
    found = []
    for word in words:
        name, joined, value = word.partition("=")
        found.append(f"{names.get(name, name)}{joined}{value}")
    return found


def dashed(name: str) -> str:
    """Return a flag as it is written on a command line.

    >>> dashed("batch_size")
    '--batch-size'
    """
    return "--" + name.replace("_", "-")
