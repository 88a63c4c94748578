"""The verb `verify` at the terminal."""

from __future__ import annotations

from bertwright.cli.terminal.command import command_of
from bertwright.verbs.verify import verify

verify_command = command_of(verify, words="thing", example="bertwright verify runs/en")
