"""Mutated files of every kind, and all that once broke something, end in one of our errors or are read right.

Each is read in another process, which benchmarks/fuzz.py starts: a crash, a hang or a large allocation is seen there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
FINDINGS = sorted((Path(__file__).parent / "findings").glob("*.json"))


def fuzz(*words: str) -> list[str]:
    """Return the lines that benchmarks/fuzz.py prints; it must have found nothing."""
    ran = subprocess.run([sys.executable, str(FUZZ), *words], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.splitlines()


def test_mutated_files_of_every_kind() -> None:
    """Some of each kind; the count that docs/safety.md tells of takes a quarter of an hour."""
    lines = fuzz("--count", "12", "--seed", "7")
    assert len(lines) > 60
    assert all(line.endswith("| 0 |") for line in lines[2:])


def test_what_once_broke_something() -> None:
    lines = fuzz("--again")
    assert sorted(line.split(":")[0] for line in lines) == sorted(file.stem for file in FINDINGS)
    assert all(file.stat().st_size < 6000 for file in FINDINGS)
    assert sum("refused" in line for line in lines) > 30
