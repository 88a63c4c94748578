"""The verb `bench`: how fast this machine does a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from bertwright.config import merge
from bertwright.errors import UsageError


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
) -> None:
    """Measure how fast this machine does a stage; print a table, and write JSON with machine and versions.

    Example:
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
        pretrain: a whole run, judged beside a peer's model. finetune: steps of a task, examples/s. predict: sentences/s
        in float32, as `predict` does and exported, side by side; of a pre-trained model, fill-mask.
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
        For predict: encoding of the file, such as gb18030; where not given, one other than UTF-8 is found and said.
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
    from bertwright.cli.overrides import parse_overrides
    from bertwright.verbs.bench import bench_finetune, bench_prepare, bench_pretrain, bench_step
    from bertwright.verbs.bench_predict import bench_predict

    if what == "step":
        settings = parse_overrides(words, verb="bench") | ({"size": size} if size else {})
        bench_step(_needed(data, "--data DATA"), recipe=recipe, steps=steps, settings=settings, out=out)
    elif what == "pretrain":
        settings = parse_overrides(words, verb="bench") | ({"size": size} if size else {})
        bench_pretrain(
            _needed(data, "--data DATA"),
            peer=_needed(peer, "--peer DIR"),
            run=_needed(run, "--run RUN"),
            recipe=recipe,
            settings=merge(settings, {"schedule": {"minutes": minutes}} if minutes else {}),
            out=out,
        )
    elif what == "finetune":
        if not words or words[0].startswith("-"):
            raise UsageError("bench finetune needs a task, such as: bertwright bench finetune classify ...")
        bench_finetune(
            words[0],
            model=_needed(model, "--model DIR"),
            examples=_needed(train, "--train FILE"),
            steps=steps,
            settings=parse_overrides(words[1:], verb="bench"),
            out=out,
        )
    elif what == "prepare":
        if not words:
            raise UsageError("bench prepare needs an INPUT: a file, a folder or a glob")
        bench_prepare(words, tokenizer=_needed(tokenizer, "--tokenizer DIR"), language=language, out=out)
    else:
        bench_predict(
            _needed(model, "--model DIR"), input=input, encoding=encoding, sentences=sentences, turns=turns, out=out
        )


def _needed(path: Path | None, flag: str) -> Path:
    if path is None:
        raise UsageError(f"this needs {flag}; see bertwright bench --help")
    return path
