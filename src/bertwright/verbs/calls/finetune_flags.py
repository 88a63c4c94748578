"""Declares the flags of `finetune` that stand for settings, for the command line and the Python function alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict

from bertwright.config import merge
from bertwright.errors import UsageError
from bertwright.flags import Sets, dashed, nested, settings_of_flags
from bertwright.verbs.calls.pretrain_flags import save_every_settings

OF_TRANSLATE = ("source", "target", "init_parts", "decoder_layers")
RATES = "3e-5 x 768 / width; translate 1e-4 x (768 / width)^2"
"""Default learning rates: see `FinetuneConfig.fitted` and `TranslateConfig.fitted`."""
LISTS = {"label_names": "columns.label_names", "lora_matrices": "transfer.lora_matrices"}
"""Flags whose value is a list, with commas between."""


class FinetuneFlags(TypedDict, total=False):
    """Settings of a run under names of their own; every other is given as --SECTION.FIELD VALUE."""

    dev_fraction: Annotated[float, Sets("split.dev_fraction", "0.1")]
    """Share of the training file to hold out where there is no --dev. Classes keep their shares, equal texts (for
    answer and choose, questions about one context) stay on one side."""
    seed: Annotated[int, Sets("seed", "0")]
    """The first seed."""
    epochs: Annotated[float, Sets("schedule.epochs", "3; translate 10")]
    """Passes over the training file."""
    batch_size: Annotated[int, Sets("batches.rows", "32; translate and embed 64")]
    """Examples a step; fewer where they have more than --batches.tokens together."""
    seq_length: Annotated[int, Sets("batches.max_length", "512; translate 256 on either side")]
    """Longest row in tokens, and never more than the model reads."""
    learning_rate: Annotated[float, Sets("optimizer.learning_rate", RATES)]
    """Peak learning rate."""
    warmup: Annotated[float, Sets("schedule.warmup", "0.1")]
    """Share of the run in which the learning rate rises."""
    weight_decay: Annotated[float, Sets("optimizer.weight_decay", "0.01")]
    """Decoupled weight decay; never on biases and LayerNorms."""
    accumulation: Annotated[int, Sets("engine.accumulation", "1")]
    """Parts a step is computed in, one after another: less memory, the same model but for rounding."""
    precision: Annotated[str, Sets("precision", "auto")]
    """bf16, fp32, or auto: bf16 where the hardware multiplies it. A finished model is evaluated in fp32."""
    device: Annotated[str, Sets("engine.device", "auto")]
    """cpu, cuda, cuda:N, or auto: a GPU where there is one."""
    eval_every: Annotated[int | str, Sets("watch.evaluate_every", "once an epoch")]
    """Evaluate on dev every so many steps (500) or minutes (2min; also s and h), and at the end."""
    save_every: int | str
    """Save a checkpoint every so many steps, on top of every 5 minutes, or, given a time such as 2min, that often."""
    text_column: Annotated[str, Sets("columns.text", "told by its name")]
    """Column of the text, or of the first text of a pair. Without a header: 1, 2 ..."""
    pair_column: Annotated[str, Sets("columns.pair", "told by its name")]
    """Column of the second text of a pair."""
    label_column: Annotated[str, Sets("columns.label", "told by its name; tag: the last")]
    """Column of the label, score or tag; with --multi-label also A,B,C: a column each."""
    multi_label: Annotated[bool, Sets("head.multi_label")]
    """classify: a text may have several labels, or none: a list in JSON, several with a separator between them in one
    column, or a column for each label with 0 and 1."""
    label_separator: Annotated[str, Sets("columns.label_separator", "found in the file: | ; ,")]
    """What stands between labels in one column."""
    label_names: str
    """tag: what numbers stand for as tags, from 0 on, such as O,B-PER,I-PER; as the file says where not given."""
    encoding: str
    """Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is found and said."""
    class_weights: str
    """classify, tag: balanced (the rarer a class, the more it counts), or weights by name, such as good=1,bad=2.5."""
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
    freeze_layers: int | Literal["all"]
    """Keep the embeddings and so many blocks, from the first, as they are; all leaves the head to learn alone."""
    unfreeze: Annotated[float, Sets("transfer.unfreeze", "0")]
    """Unfreeze block after block, from the last to the first, over this share of the run, such as 0.5."""
    lora_rank: Annotated[int, Sets("transfer.lora_rank", "0: none")]
    """Train low-rank adapters of this rank, such as 8, instead of the encoder; they are merged into what is written."""
    lora_alpha: Annotated[float, Sets("transfer.lora_alpha", "16")]
    """What they are multiplied by, times 1 / rank."""
    lora_matrices: str
    """Matrices of each block that have them, of query, key, value, output, inner; query,value where not given."""
    r_drop: Annotated[float, Sets("transfer.r_drop", "0: off")]
    """Weight of R-Drop, such as 1: every batch is seen twice, and its two draws of dropout should agree."""
    dropout: Annotated[float, Sets("transfer.dropout", "as config.json says")]
    """Dropout inside the encoder."""
    source: Annotated[str, Sets("translate.source")]
    """translate: suffix of the source files (PREFIX.en: en), or column of the source text in a table."""
    target: Annotated[str, Sets("translate.target")]
    """translate: suffix of the target files, or column of the target text."""
    init_parts: Annotated[Literal["both", "encoder", "neither"], Sets("translate.start", "both")]
    """translate: what starts from the weights of --model: both encoder and decoder, the encoder, or neither."""
    decoder_layers: Annotated[int, Sets("translate.decoder_layers", "as many as the model has")]
    """translate: blocks of the decoder."""


def finetune_settings(task: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that flags of FinetuneFlags stand for; raises UsageError where `task` has no use for one.

    >>> finetune_settings("tag", {"crf": True, "batch_size": 16, "label_names": "O,B-PER"})
    {'head': {'crf': True}, 'batches': {'rows': 16}, 'columns': {'label_names': ['O', 'B-PER']}}
    """
    given = {name: value for name, value in flags.items() if value is not None}
    odd = next((name for name in OF_TRANSLATE if name in given), None)
    if odd is not None and task != "translate":
        raise UsageError(f"{dashed(odd)} is for translate; {task} has no use for it, so leave it out")
    layers = [settings_of_flags(FinetuneFlags, given)]
    layers += [nested(LISTS[name], _listed(given[name])) for name in LISTS if name in given]
    if "encoding" in given:
        layers.append(nested("translate.encoding" if task == "translate" else "columns.encoding", given["encoding"]))
    if "class_weights" in given:
        layers.append(nested("head.class_weights", _weights(given["class_weights"])))
    if "freeze_layers" in given:
        layers.append(nested("transfer.freeze", given["freeze_layers"]))
    layers.append(save_every_settings("watch", given.get("save_every")))
    settings: dict[str, Any] = {}
    for layer in layers:
        settings = merge(settings, layer)
    return settings


def _listed(value: Any) -> Any:
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def _weights(given: Any) -> Any:
    """Return "balanced", or weights by name from NAME=WEIGHT,NAME=WEIGHT; raises UsageError."""
    if given == "balanced" or not isinstance(given, str):
        return given
    parts = [part.rpartition("=") for part in given.split(",")]
    if not all(name and weight for name, _, weight in parts):
        raise UsageError(f"--class-weights {given} is neither balanced nor NAME=WEIGHT,NAME=WEIGHT; fix it")
    return {name: weight for name, _, weight in parts}
