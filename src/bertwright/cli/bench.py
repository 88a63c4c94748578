"""The verb `bench`: how fast this machine does a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypedDict

from cyclopts import Parameter

from bertwright.cli.command import prints
from bertwright.cli.overrides import parse_overrides
from bertwright.config import merge
from bertwright.errors import UsageError
from bertwright.result import Result


class BenchFlags(TypedDict, total=False):
    """What the stages need, each its own."""

    data: Path
    """For step and pretrain: folder that `bertwright prepare` made."""
    size: str
    """For step and pretrain: size of the model; the recipe's own where not given."""
    tokenizer: Path
    """For prepare: a tokenizer.json or its folder."""
    model: Path
    """For finetune and predict: a MODEL folder; for predict also an ONNX folder."""
    input: Path
    """For predict: file of questions, one a line."""
    encoding: str
    """For predict: encoding of the file, such as gb18030; where not given, one other than UTF-8 is found and said."""
    minutes: float
    """For pretrain: length of the run; the recipe's own where not given."""
    peer: Path
    """For pretrain: a MODEL folder to reach, such as benchmarks/peers/trainer.py writes."""
    run: Path
    """For pretrain: folder of the run."""
    train: Path
    """For finetune: a file of labelled examples."""
    out: Path
    """JSON file to write the figures to."""


@prints
def bench_command(
    what: Literal["step", "prepare", "pretrain", "finetune", "predict"],
    *words: Annotated[str, Parameter(allow_leading_hyphen=True)],
    recipe: str = "fast",
    steps: int = 40,
    language: str = "en",
    sentences: int = 1000,
    turns: int = 3,
    flags: Annotated[BenchFlags | None, Parameter(name="*")] = None,
) -> Result:
    """Measure how fast this machine does a stage; print a table, and write JSON with machine and versions.

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
    recipe
        For step: the recipe whose first phase is measured. For pretrain: the recipe of the run.
    steps
        For step and finetune: optimizer steps to time, after the first few.
    language
        For prepare: language of the text.
    sentences
        For predict without --input: how many sentences of the model's own words.
    turns
        For predict: times each side is measured; the median counts.
    """
    from bertwright.verbs.bench import bench_prepare, bench_step
    from bertwright.verbs.bench_predict import bench_predict

    given = flags or BenchFlags()
    out, input, encoding = given.get("out"), given.get("input"), given.get("encoding")
    if what == "step":
        return bench_step(
            _needed(given, "data", "DATA"), recipe=recipe, steps=steps, settings=_settings(words, given), out=out
        )
    if what == "pretrain":
        return _bench_pretrain(words, given, recipe=recipe)
    if what == "finetune":
        return _bench_finetune(words, given, steps=steps)
    if what == "prepare":
        if not words:
            raise UsageError("bench prepare needs an INPUT: a file, a folder or a glob")
        return bench_prepare(words, tokenizer=_needed(given, "tokenizer", "DIR"), language=language, out=out)
    model = _needed(given, "model", "DIR")
    return bench_predict(model, input=input, encoding=encoding, sentences=sentences, turns=turns, out=out)


def _bench_pretrain(words: tuple[str, ...], given: BenchFlags, *, recipe: str) -> Result:
    from bertwright.verbs.bench import bench_pretrain

    return bench_pretrain(
        _needed(given, "data", "DATA"),
        peer=_needed(given, "peer", "DIR"),
        run=_needed(given, "run", "RUN"),
        recipe=recipe,
        settings=merge(
            _settings(words, given), {"schedule": {"minutes": given["minutes"]}} if "minutes" in given else {}
        ),
        out=given.get("out"),
    )


def _bench_finetune(words: tuple[str, ...], given: BenchFlags, *, steps: int) -> Result:
    from bertwright.verbs.bench import bench_finetune

    if not words or words[0].startswith("-"):
        raise UsageError("bench finetune needs a task, such as: bertwright bench finetune classify ...")
    return bench_finetune(
        words[0],
        model=_needed(given, "model", "DIR"),
        examples=_needed(given, "train", "FILE"),
        steps=steps,
        settings=parse_overrides(words[1:], verb="bench"),
        out=given.get("out"),
    )


def _settings(words: tuple[str, ...], given: BenchFlags) -> dict[str, object]:
    return parse_overrides(words, verb="bench") | ({"size": given["size"]} if "size" in given else {})


def _needed(given: BenchFlags, name: Literal["data", "tokenizer", "model", "peer", "run", "train"], value: str) -> Path:
    if name not in given:
        raise UsageError(f"this needs --{name} {value}; see bertwright bench --help")
    return given[name]
