"""Lets `python -m bertwright` stand for the command `bertwright`, as torchrun and notebooks call it."""

from __future__ import annotations

import sys

from bertwright.cli.main import main

sys.exit(main())
