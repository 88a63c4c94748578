"""The verb `bench` at the terminal: how fast this machine does a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from bertwright.cli.command import prints
from bertwright.cli.overrides import parse_overrides
from bertwright.errors import UsageError
from bertwright.nested import merge
from bertwright.result import Result

NEEDED = {
    "step": {"data": "DATA"},
    "prepare": {"tokenizer": "DIR"},
    "pretrain": {"data": "DATA", "peer": "DIR", "run": "RUN"},
    "finetune": {"model": "DIR", "train": "FILE"},
    "predict": {"model": "DIR"},
}
"""Flags that a stage cannot do without."""


@prints
def bench_command(
    what: Literal["step", "prepare", "pretrain", "finetune", "predict"],
    *words: Annotated[str, Parameter(allow_leading_hyphen=True)],
    data: Path | None = None,
    recipe: str = "fast",
    size: str | None = None,
    steps: int = 40,
    tokenizer: Path | None = None,
    language: str = "en",
    model: Path | None = None,
    input: Path | None = None,
    encoding: str | None = None,
    sentences: int = 1000,
    turns: int = 3,
    minutes: float | None = None,
    peer: Path | None = None,
    run: Path | None = None,
    train: Path | None = None,
    out: Path | None = None,
) -> Result:
    """Measure how fast this machine does a stage; show a table, and write JSON with machine and versions.

    For example:
        bertwright bench step --data data/en --recipe fast --size mini
        bertwright bench prepare my-texts/ --tokenizer data/en/tokenizer
        bertwright bench pretrain --data data/en --minutes 5 --run runs/fast --peer peer/model
        bertwright bench finetune classify --model runs/en/model --train train.tsv
        bertwright bench predict --model runs/sentiment/model --input reviews.txt --out predict.json

    Nothing else should run on the machine meanwhile. Settings of a recipe can be given as --SECTION.FIELD VALUE.

    Parameters
    ----------
    what
        step: training steps, tokens/s, utilisation, where the time goes. prepare: MB/s, peak memory, disk.
        pretrain: a whole run, evaluated beside a peer's model. finetune: steps of a task, examples/s. predict:
        sentences/s in float32, as `predict` does and exported, side by side; of a pre-trained model, fill-mask.
    words
        For prepare: the INPUT files, folders or globs. For finetune: the task. Settings, but for prepare and predict.
    data
        For step and pretrain: folder that `bertwright prepare` made.
    recipe
        For step: the recipe whose first phase is measured. For pretrain: the recipe of the run.
    size
        For step and pretrain: size of the model; the recipe's own where not given.
    steps
        For step and finetune: optimizer steps to time, after the first few.
    tokenizer
        For prepare: a tokenizer.json or its folder.
    language
        For prepare: language of the text.
    model
        For finetune and predict: a MODEL folder; for predict also an ONNX folder.
    input
        For predict: file of questions, one a line.
    encoding
        For predict: encoding of the file, such as gb18030; where not given, one other than UTF-8 is detected and
        reported.
    sentences
        For predict without --input: how many sentences of the model's own words.
    turns
        For predict: times each side is measured; the median counts.
    minutes
        For pretrain: length of the run; the recipe's own where not given.
    peer
        For pretrain: a MODEL folder to reach, such as benchmarks/peers/trainer.py writes.
    run
        For pretrain: folder of the run.
    train
        For finetune: a file of labelled examples.
    out
        JSON file to write the figures to.
    """
    given = _needed(what, words, data=data, tokenizer=tokenizer, model=model, peer=peer, run=run, train=train)
    from bertwright.verbs import bench
    from bertwright.verbs.bench_predict import bench_predict

    if what == "predict":
        return bench_predict(**given, out=out, input=input, encoding=encoding, sentences=sentences, turns=turns)
    if what == "prepare":
        return bench.bench_prepare(words, **given, out=out, language=language)
    if what == "finetune":
        settings = parse_overrides(words[1:], verb="bench")
        return bench.bench_finetune(words[0], **given, out=out, steps=steps, settings=settings)
    settings = parse_overrides(words, verb="bench") | ({} if size is None else {"size": size})
    if what == "step":
        return bench.bench_step(**given, out=out, recipe=recipe, steps=steps, settings=settings)
    settings = merge(settings, {} if minutes is None else {"schedule": {"minutes": minutes}})
    return bench.bench_pretrain(**given, out=out, recipe=recipe, settings=settings)


def _needed(what: str, words: Sequence[str], **paths: Path | None) -> dict[str, Any]:
    """Return the paths that a stage cannot do without; raises UsageError where one of them, or a word, is missing."""
    if what == "prepare" and not words:
        raise UsageError("bench prepare needs an INPUT: a file, a folder or a glob")
    if what == "finetune" and (not words or words[0].startswith("-")):
        raise UsageError("bench finetune needs a task, such as: bertwright bench finetune classify ...")
    for name, value in NEEDED[what].items():
        if paths[name] is None:
            raise UsageError(f"this needs --{name} {value}; see bertwright bench --help")
    return {name: paths[name] for name in NEEDED[what]}
