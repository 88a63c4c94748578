"""Decides what the arithmetic runs in: device, and bfloat16 where the hardware has it.

And says what machine and which versions a figure was measured with: without them it means nothing elsewhere.
"""

from __future__ import annotations

import math
import platform
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from importlib.metadata import version
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator

from bertwright.errors import ConfigError

Precision = Literal["auto", "bf16", "fp32"]
"""What a model is asked in."""
TrainingPrecision = Literal["auto", "bf16", "fp16", "fp32"]
"""What a model is trained in."""
Arithmetic = Literal["bf16", "fp16", "fp32"]
"""What matrix products run in."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
TENSOR_CORES = (7, 0)
"""The compute capability from which GPUs multiply float16 many times faster than float32."""
_CHOSEN: ContextVar[torch.device | None] = ContextVar("_CHOSEN", default=None)
ROUND_SECONDS = 0.1
"""Seconds that products are timed over together."""


def _checked_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    return name


DeviceName = Annotated[str, AfterValidator(_checked_device)]
"""auto, cpu, cuda or cuda:N."""


def pick_device() -> torch.device:
    """Return the device that `on_device` has chosen; elsewhere the CUDA device if there is one, else the CPU."""
    return _CHOSEN.get() or torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def on_device(name: str) -> Iterator[None]:
    """Run everything inside on a device: "cpu", "cuda", "cuda:1", or "auto", a GPU where there is one.

    Raises ConfigError where this machine has no such device.
    """
    if name == "auto":
        yield
        return
    device, count = torch.device(name), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        found = f"{count} GPU{'s' * (count > 1)}, counted from cuda:0" if count else "no GPU that torch can use"
        raise ConfigError(f"--device {name}: this machine has {found}; give --device cpu, or leave it out")
    token = _CHOSEN.set(device)
    try:
        with torch.cuda.device(device.index) if device.index is not None else nullcontext():
            yield
    finally:
        _CHOSEN.reset(token)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether `device` multiplies bfloat16 matrices natively.

    On CPUs without such instructions bfloat16 products are many times slower than float32, so this asks for the
    instructions, not for the type; and for oneDNN, which ONEDNN_MAX_CPU_ISA can hold to less than AVX512.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(instructions and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def resolve_precision(wanted: TrainingPrecision, device: torch.device) -> Arithmetic:
    """Return the precision to train in on `device`."""
    if wanted != "auto":
        return wanted
    if has_bfloat16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" and torch.cuda.get_device_capability(device) >= TENSOR_CORES else "fp32"


def product_dtype(precision: Arithmetic) -> torch.dtype:
    """Return the type that matrix products take in a precision."""
    return DTYPES[precision]


def autocast(precision: Arithmetic, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which forward passes run."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, DTYPES[precision])


@contextmanager
def float32_products(wanted: TrainingPrecision, device: torch.device) -> Iterator[None]:
    """Let products that stay float32 on a GPU run in TF32 inside: ten bits of each factor, several times as fast.

    Where float32 is `wanted` by name, products are those of float32; so they are on a CPU.
    """
    matmul = torch.backends.cuda.matmul
    if device.type != "cuda" or wanted == "fp32":
        yield
        return
    # By the older of two settings: the compiler of some versions fails where the newer one was used.
    before, matmul.allow_tf32 = matmul.allow_tf32, True
    try:
        yield
    finally:
        matmul.allow_tf32 = before


def matmul_rate(
    rows: int,
    inner: int,
    outer: int,
    *,
    precision: Arithmetic,
    device: torch.device,
    rounds: int = 6,
) -> float:
    """Measure floating-point operations a second of [rows, inner] x [inner, outer] products.

    The best of some rounds of 0.1 seconds: what the machine can do, not what its other guests left over. A GPU is
    waited for once a round: between single products it would stand idle.
    """
    dtype = product_dtype(precision)
    left = torch.randn(rows, inner, device=device).to(dtype)
    right = torch.randn(outer, inner, device=device).to(dtype)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def seconds(count: int) -> float:
        wait()  # for what was ordered before, such as a step
        began = time.perf_counter()
        for _ in range(count):
            torch.nn.functional.linear(left, right)
        wait()
        return time.perf_counter() - began

    count, each = 1, seconds(1)  # the first product also pays for what is made once
    while count * each < ROUND_SECONDS:
        count = max(count + 1, min(10 * count, math.ceil(ROUND_SECONDS / each)))
        each = seconds(count) / count
    return 2 * rows * inner * outer / min(each, *(seconds(count) / count for _ in range(rounds - 1)))


def peak_device_memory() -> int | None:
    """Return the most bytes that tensors of this process have held on the chosen GPU; None where that is a CPU."""
    return torch.cuda.max_memory_allocated(pick_device()) if pick_device().type == "cuda" else None


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
