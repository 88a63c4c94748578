"""The verb `prepare` at the terminal."""

from __future__ import annotations

from bertwright.cli.terminal.command import command_of
from bertwright.verbs.prepare import prepare

EXAMPLE = """
bertwright prepare books/ news.jsonl.zst --out data --vocab-size 8192
bertwright prepare crawl/ --out data --filter web --only-language en --near-duplicates 0.8
bertwright prepare law/ --out data --tokenizer MODEL --extend-vocab 2000
"""

prepare_command = command_of(prepare, words="inputs", example=EXAMPLE, python_only=("shard_text", "lowercase"))
