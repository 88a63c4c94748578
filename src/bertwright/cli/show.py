"""The verb `show` at the terminal."""

from __future__ import annotations

from bertwright.cli.terminal.command import command_of
from bertwright.verbs.show import show

EXAMPLE = """
bertwright show data/en --batch 1000 --recipe fast    # what that step of a run sees
bertwright show runs/en --batch 1000                  # what it saw
bertwright show data/en --batch 1000 --whole-word
bertwright show runs/en runs/en-2            # what differs in settings and figures
bertwright show recipes
bertwright show classic                    # every setting, the recipe's value, what it means
"""

show_command = command_of(show, words="thing other", example=EXAMPLE)
