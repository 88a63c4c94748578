"""The verb `watch` at the terminal."""

from __future__ import annotations

from bertwright.cli.terminal.command import command_of
from bertwright.verbs.watch import watch

EXAMPLE = """
bertwright watch runs/en                     # then open http://127.0.0.1:8090
bertwright watch runs/en runs/en-2
bertwright watch runs/en --out curves.html   # the page once, to open offline
"""

watch_command = command_of(watch, words="run", example=EXAMPLE)
