"""Says what machine and which versions a figure was measured with: a figure without them means nothing elsewhere."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch


def machine(device: torch.device) -> dict[str, Any]:
    """Return device, threads, system and processor."""
    return {
        "device": device.type,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "processor": processor_name(device),
    }


def versions() -> dict[str, str]:
    """Return the versions of what a run is made with."""
    return {name: version(name) for name in ("bertwright", "torch", "tokenizers")}


def processor_name(device: torch.device) -> str:
    """Return the name of the GPU, or the CPU's architecture and widest vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
