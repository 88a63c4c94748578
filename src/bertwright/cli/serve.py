"""The verb `serve` at the terminal."""

from __future__ import annotations

from bertwright.cli.terminal.command import command_of
from bertwright.verbs.serve import serve

EXAMPLE = """
bertwright serve --model run/model
bertwright serve --model runs/en/model --watch runs/en runs/en-2
bertwright serve --model runs/en/model --model sentiment=runs/sentiment.onnx --host 0.0.0.0 --api-key-file key.txt
"""

serve_command = command_of(serve, example=EXAMPLE)
