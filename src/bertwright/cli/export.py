"""The verb `export` at the terminal."""

from __future__ import annotations

from bertwright.cli.terminal.command import command_of
from bertwright.verbs.export import export

EXAMPLE = """
bertwright export --model runs/sentiment/model --to onnx --out sentiment-onnx
bertwright export --model runs/sentiment/model --to onnx --out sentiment-int8 --quantize int8 --data dev.tsv
bertwright predict --model sentiment-int8 --input reviews.txt --output answers.jsonl
"""

export_command = command_of(export, example=EXAMPLE, python_only=("columns",))
