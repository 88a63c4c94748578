"""The verb `embed` at the terminal."""

from __future__ import annotations

from bertwright.cli.terminal.command import command_of
from bertwright.verbs.embed import embed

EXAMPLE = """
bertwright embed --model runs/sentences/model --input texts.txt --out vectors.npy
bertwright embed --model runs/en/model --input reviews.tsv --text-column review --layer -2 --out vectors.parquet
"""

embed_command = command_of(embed, example=EXAMPLE, leading_hyphen=("input", "layer"), paths=("input", "out"))
