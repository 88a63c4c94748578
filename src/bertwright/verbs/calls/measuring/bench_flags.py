"""Declares the flags of `bench`, for the command line and Python alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypedDict

from bertwright.flags import Sets


class BenchFlags(TypedDict, total=False):
    """What a stage is measured on."""

    data: Path
    """For step and pretrain: folder that `bertwright prepare` made."""
    recipe: Annotated[str, Sets(default="fast")]
    """For step: the recipe whose first phase is measured. For pretrain: the recipe of the run."""
    size: Annotated[str, Sets("size", "the recipe's own")]
    """For step and pretrain: size of the model."""
    steps: Annotated[int, Sets(default="40")]
    """For step and finetune: optimizer steps to time, after the first few."""
    tokenizer: Path
    """For prepare: a tokenizer.json or its folder."""
    language: Annotated[str, Sets(default="en")]
    """For prepare: language of the text."""
    model: Path
    """For finetune and predict: a MODEL folder; for predict also an ONNX folder."""
    input: Path
    """For predict: file of questions, one a line."""
    encoding: Annotated[str, Sets(default="UTF-8, or what is detected and reported")]
    """For predict: encoding of the file, such as gb18030."""
    sentences: Annotated[int, Sets(default="1000")]
    """For predict without --input: how many sentences of the model's own words."""
    turns: Annotated[int, Sets(default="3")]
    """For predict: times each side is measured; the median counts."""
    minutes: Annotated[float, Sets("schedule.minutes", "the recipe's own")]
    """For pretrain: length of the run."""
    peer: Path
    """For pretrain: a MODEL folder to reach, such as benchmarks/peers/trainer.py writes."""
    run: Path
    """For pretrain: folder of the run."""
    train: Path
    """For finetune: a file of labelled examples."""
    out: Path
    """JSON file to write the figures to."""
