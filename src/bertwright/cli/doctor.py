"""The verb `doctor` at the terminal."""

from __future__ import annotations

from bertwright.cli.terminal.command import command_of
from bertwright.verbs.doctor import doctor

EXAMPLE = """
bertwright doctor my-texts/ --test sst2/dev.tsv
bertwright doctor data --json
"""

doctor_command = command_of(doctor, words="things", example=EXAMPLE)
