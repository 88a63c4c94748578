"""Tells what the machine is: versions, card, driver, clocks, power, and its peak by the data sheet and as measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path

import torch
from gpu_parts.part import Part

from bertwright.device import matmul_rate, pick_device, processor_name, resolve_precision
from bertwright.planning.gpus import GPUS

ASKED = "name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit,power.draw,temperature.gpu"
PACKAGES = ("bertwright", "torch", "triton", "transformers", "accelerate", "tokenizers", "numpy")


def card(part: Part) -> None:
    """Write down the machine, then measure the rate of matrix products."""
    device = pick_device()
    precision = resolve_precision("auto", device)
    name = processor_name(device)
    maker, source = peak_of(known_as(name), precision)
    part.tell(
        versions={package: installed(package) for package in PACKAGES} | {"python": platform.python_version()},
        cuda=torch.version.cuda,
        commit=commit(),
        cores=os.cpu_count(),
        device=device.type,
        name=name,
        precision=precision,
        maker_flops=maker,
        maker_source=source,
    )
    side = 8192 if device.type == "cuda" else 512
    with ThreadPoolExecutor(1) as beside:
        busy = beside.submit(nvidia_smi)
        rate = matmul_rate(side, side, side, precision=precision, device=device, rounds=20)
        part.tell(measured_flops=rate, nvidia_smi=busy.result())
    said = f"{rate / maker:.0%} of the data sheet" if maker else "this device is in no table of ours"
    part.cell(f"{precision} products, {side} wide", round(rate / 1e12, 3), unit="TFLOP/s", also=said)


def peak_of(known: str, precision: str) -> tuple[float | None, str | None]:
    """Return the operations a second of dense products that a maker says of a card, and where; None where unknown."""
    about = GPUS.get(known)
    return (about.flops, about.source) if about and about.precision == precision else (None, None)


def known_as(name: str) -> str:
    """Return the name that our table of GPUs has for a card.

    >>> known_as("NVIDIA H200"), known_as("NVIDIA A100-SXM4-40GB"), known_as("NVIDIA H100 PCIe"), known_as("Tesla T4")
    ('h200', 'a100-40gb', 'h100-pcie', 't4')
    """
    words = re.split(r"[ -]+", name.lower())
    words += [first + second for first, second in pairwise(words)]  # RTX 4090 is rtx4090 in the table
    fitting = [known for known in GPUS if set(known.split("-")) <= set(words)]
    return max(fitting, key=len, default="")


def installed(package: str) -> str | None:
    """Return the version of a package; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def nvidia_smi() -> dict[str, str] | None:
    """Return driver, clocks and power of the first card as nvidia-smi says them in a second; None without it."""
    if not torch.cuda.is_available():
        return None
    time.sleep(1)  # so that the card is at work
    words = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader", "--id=0"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(ASKED.split(","), (word.strip() for word in said.split(",")), strict=False))


def commit() -> str | None:
    """Return the commit of this clone; None outside of one."""
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
