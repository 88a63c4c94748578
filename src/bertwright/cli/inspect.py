"""The verb `inspect` at the terminal."""

from __future__ import annotations

from bertwright.cli.terminal.command import command_of
from bertwright.verbs.inspect import inspect

EXAMPLE = """
bertwright inspect quickstart/run --out page.html
bertwright inspect run/model --out page.html --text "Return the [MASK] of the list." "It rained.	We stayed at home."
bertwright inspect run-a/model --against run-b/model --out page.html
"""

inspect_command = command_of(inspect, words="model", example=EXAMPLE)
