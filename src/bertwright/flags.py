"""Turns the named flags of a verb into nested settings: one declaration serves the command line and the Python API.

The flags of a verb that stand for settings are a TypedDict (`verbs/calls/`): the name of a field is the flag, its
docstring the help, and `Sets` names the setting. The command line reads that class, and the Python function takes
`**flags: Unpack[...]` of it, which its signature and its docstring show one by one. Names of earlier versions go on
working, from one table.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from bertwright.errors import ConfigError, UsageError
from bertwright.nested import merge, nested

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
    "save_strategy": ("save_every",), "gradient_checkpointing": ("recompute",), "load_best_model_at_end": (),
}  # fmt: skip
"""Flags of Hugging Face's scripts, and what we call each, the first that a verb has; () where a verb needs none."""
SECTIONS = {
    "pretrain": {"model", "data", "objective", "optimizer", "schedule", "average", "guard", "engine"},
    "finetune": {"columns", "head", "batches", "engine", "schedule", "optimizer", "transfer", "watch", "translate"},
    "tune": {"columns", "head", "batches", "engine", "schedule", "optimizer", "transfer", "watch", "translate"},
}  # fmt: skip
"""Sections of the settings of a verb, for what Hugging Face has a flag for and we have a setting."""
ONE_VERB_ALONE = {"engine.log_every": "pretrain", "engine.keep": "pretrain", "schedule.decay": "pretrain"}
"""Settings among those of HUGGING_FACE that stand in a section of this verb alone."""


@dataclass(frozen=True)
class Sets:
    """Marks a flag, in its annotation, with the setting it stands for; `default` says in words what holds without it.

    Where a recipe has the setting, its value there is the default. `read` turns what is given into the value of the
    setting. A flag that is no setting has none.
    """

    setting: str = ""
    default: str | None = None
    read: Callable[[Any], Any] | None = None


def set_by(kind: type) -> dict[str, Sets]:
    """Return the mark of each flag of a TypedDict that has one."""
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
        mark = marks.get(name)
        if value is not None and mark is not None and mark.setting:
            settings = merge(settings, nested(mark.setting, value if mark.read is None else mark.read(value)))
    return settings


def with_flags(verb: str, *kinds: type) -> Callable[[F], F]:
    """Return a decorator for the Python function of a verb that knows flags by their earlier names too.

    Signature and docstring, which help() shows, have the flags of `kinds` one by one. Raises UsageError, naming the
    nearest flag, where it is called with one that does not exist. A ConfigError names the flag that set the value.
    """
    hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind, include_extras=True).items()}
    marks = {name: mark for kind in kinds for name, mark in set_by(kind).items() if mark.setting}

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        named = {one.name: one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD}
        flags = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=plain(hint) | None)
            for name, hint in hints.items()
            if name not in named
        ]
        known = {*named, *(one.name for one in flags)}

        @wraps(function)
        def called(*arguments: Any, **given: Any) -> Any:
            for name in WITHOUT_EFFECT.get(verb, ()):
                given.pop(name, None)
            for name, now in EARLIER.get(verb, {}).items():
                if name in given:
                    if now in given:
                        raise UsageError(f"{now} is given twice: {name} is its earlier name, so leave that out")
                    given[now] = given.pop(name)
            for name in given.keys() - known:
                raise UsageError(f"{verb} has no {name}; {advice(verb, name, known, spelled=str)}")
            try:
                return function(*arguments, **given)
            except ConfigError as error:
                used = {mark.setting: dashed(name) for name, mark in marks.items() if given.get(name) is not None}
                error.args = (naming_flags(str(error), used),)
                raise

        called.__signature__ = signature.replace(parameters=[*named.values(), *flags])  # type: ignore[attr-defined]
        called.__doc__ = with_parameters(function.__doc__ or "", kinds) if kinds else function.__doc__
        return cast(F, called)

    return decorate


def naming_flags(message: str, flags: Mapping[str, str]) -> str:
    """Return what is wrong with settings, with the flags that set them in the place of their names.

    >>> naming_flags("objective.mask_rate must be below 1 (given: 3)", {"objective.mask_rate": "--mask-rate"})
    '--mask-rate must be below 1 (given: 3)'
    """
    sentences = []
    for sentence in message.split("; "):
        for setting, flag in flags.items():
            section, _, field = setting.rpartition(".")
            name = rf"{re.escape(section)}(\.phases\.\d+)?\.{field}" if section else field
            sentence = re.sub(rf"^{name}(?=[ :])", flag, sentence)
        sentences.append(sentence)
    return "; ".join(dict.fromkeys(sentences))


def with_parameters(docstring: str, kinds: Collection[type]) -> str:
    """Return a docstring with the flags of TypedDicts, what they mean and their defaults, before what it raises."""
    lines = []
    for kind in kinds:
        marks = set_by(kind)
        for name, meaning in meanings(kind).items():
            default = marks[name].default if name in marks else None
            lines += [name, f"    {meaning}{f' Default: {default}.' if default else ''}"]
    head, raises, tail = inspect.cleandoc(docstring).partition("\n\nRaises\n")
    title = [] if "\n\nParameters\n" in head else ["", "Parameters", "----------"]
    return "\n".join([head, *title, *lines]) + raises + tail


def meanings(kind: type) -> dict[str, str]:
    """Return what stands below each field of a class, in one line, in order."""
    body = cast(ast.ClassDef, ast.parse(inspect.getsource(kind)).body[0]).body
    found = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[ast.unparse(field.target)] = " ".join(str(below.value.value).split())
    return found


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
    "fp16": ", with bf16, fp16, fp32 or auto",
    "bf16": ", with bf16, fp16, fp32 or auto",
    "mixed_precision": ", with bf16, fp16, fp32 or auto",
    "no_cuda": ", with cpu",
    "use_cpu": ", with cpu",
    "warmup_steps": ", a fraction of the run such as 0.05",
    "num_warmup_steps": ", a fraction of the run such as 0.05",
    "validation_split_percentage": ", a fraction such as 0.05",
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
