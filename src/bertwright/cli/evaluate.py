"""The verb `evaluate` at the terminal."""

from __future__ import annotations

from bertwright.cli.terminal.command import command_of
from bertwright.verbs.evaluate import evaluate

EXAMPLE = """
bertwright evaluate mlm --model runs/en/model --data data/en
bertwright evaluate minimal-pairs --model runs/en/model --data blimp.jsonl.zst
bertwright evaluate classify --model runs/sentiment/model --data test.tsv
bertwright evaluate classify --model runs/a/model --against runs/b/model --data test.tsv
"""

evaluate_command = command_of(evaluate, words="kind", example=EXAMPLE, python_only=("columns",))
