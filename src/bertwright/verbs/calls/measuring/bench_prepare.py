"""Measures the command `prepare` on this machine: MB/s, peak memory, disk."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bertwright.errors import CorpusError
from bertwright.files import read_json
from bertwright.result import Result
from bertwright.system import peak_memory_of_children
from bertwright.verbs.calls.measuring.bench_result import bench_result


def bench_prepare(
    inputs: Sequence[str | Path], *, tokenizer: Path | str, language: str = "en", out: Path | None = None
) -> Result:
    """Measure the command `prepare` with a given tokenizer, into a folder that is deleted: MB/s, peak memory, disk.

    Whole command, in a process of its own: imports, survey, proof of the encoder and report included.
    """
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        words = [*(str(name) for name in inputs), "--tokenizer", str(tokenizer), "--language", language]
        began = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, "-m", "bertwright", "prepare", *words, "--out", str(data)], capture_output=True, text=True
        )
        seconds = time.perf_counter() - began
        if ended.returncode:
            lines = ended.stderr.strip().splitlines() or [f"prepare ended with exit code {ended.returncode}"]
            raise CorpusError(lines[-1].removeprefix("bertwright: "))
        report = read_json(data / "report.json")
    text, disk = report["text_bytes"], report["shard_bytes"]
    memory = peak_memory_of_children()
    figures = {
        "what": f"prepare {' '.join(str(name) for name in inputs)}",
        "text_bytes": text,
        "seconds": round(seconds, 2),
        "megabytes_per_second": round(text / seconds / 1e6, 2),
        "megabytes_per_second_from_reading_to_shards": round(report["megabytes_per_second"], 2),
        "peak_memory_bytes": memory,
        "disk_bytes": disk,
    }
    shown = {
        "text": f"{text / 1e6:,.1f} MB",
        "whole command": f"{figures['megabytes_per_second']:.1f} MB/s",
        "from reading to shards": f"{report['megabytes_per_second']:.1f} MB/s",
        "peak memory": "not known on this system" if memory is None else f"{memory / 1e9:.2f} GB",
        "on disk": f"{disk / 1e6:,.1f} MB ({disk / text:.2f} bytes a byte of text)",
    }
    return bench_result("preparation", figures, shown, torch.device("cpu"), out)
