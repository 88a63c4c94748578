"""Decides what the arithmetic runs in: device, bfloat16 where the hardware has it, compiled code where it works.

And says what machine and which versions a figure was measured with: without them it means nothing elsewhere.
"""

from __future__ import annotations

import math
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from threading import RLock
from typing import Annotated, Any, Literal, TypeVar, cast

import torch
import torch._functorch.config
from pydantic import AfterValidator
from torch import nn

from bertwright.errors import ConfigError, is_out_of_memory

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
AUTOCAST = ("torch.amp.autocast_mode._enter_autocast", "torch.amp.autocast_mode._exit_autocast")
"""What autocast leaves in a graph, its arguments with it, so that a graph can be kept by its text as any other; the
compiler does not know that, and would trace the step again in every process, which is most of the time it takes."""
_TABLE = RLock()
"""Held while the compiler's table is another one."""
MOST_SHAPES = 64
"""Kinds of input that one function is compiled for: the blocks of a model are one function, and differ."""
GRAPH_CALLS = 3
"""Calls after which all of a CUDA graph has been tried: one warms up, one records, one replays."""
ROUND_SECONDS = 0.1
"""Seconds that products are timed over together."""
F = TypeVar("F", bound=Callable[..., Any])


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


def try_compiled(
    function: F, attempt: Callable[[F], None], *, drops: bool, autotune: bool = False, graphs: bool = False
) -> tuple[F, str | None]:
    """Return `function` compiled, if `attempt(compiled)` runs; else the function itself and the reason in one line.

    With `graphs`, a GPU replays all kernels of a pass as one CUDA graph; what it fills is overwritten by the next call.
    Memory that runs out in the attempt is no failure of the compiler, and is raised.

    On a CPU random numbers come from torch's own kernels, compiled or not: the compiler would draw the seeds of a
    dropout mask again for every vector of it, and other ones than the uncompiled model draws. Where the model `drops`
    units, the backward pass makes everything cheap again instead of reading it back: storing dropout masks as bytes is
    slow (classic, size mini, 32 rows of 128: forward 115 ms instead of 167, backward 225 instead of 222).
    """
    options = _options() | {"max_autotune": autotune} | ({"triton.cudagraphs": True} if graphs else {})
    graph = torch.compile(function, dynamic=False, options=options)

    @wraps(function)
    def compiled_in_order(*arguments: Any, **named: Any) -> Any:
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with gradients_added_in_order():
            return graph(*arguments, **named)

    compiled = cast(F, compiled_in_order)

    def attempts() -> None:
        for _ in range(GRAPH_CALLS if graphs else 1):
            attempt(compiled)

    reason = why_not(attempts, drops=drops)
    return (function, reason) if reason else (compiled, None)


def _options() -> dict[str, Any]:
    """Return options of the compiler; all of them are in the key that it keeps a graph under.

    That key lacks two things, and a graph kept without them would be read by mistake: whether gradients are added in
    order, and the width of the processor's vectors. Code made for 16 numbers at a time, built again for 8, leaves out
    every other 8, and the other way round it writes past the end (as where several machines share a home directory).
    """
    kept_under = f"{torch.__version__}, in order, {kind_of_cpu()}"
    return {
        "fallback_random": own_random_numbers(),
        "unsafe_marked_cacheable_functions": dict.fromkeys(AUTOCAST, kept_under),
    }


def own_random_numbers() -> bool:
    """Return whether units are dropped by the hash of `model/layers/dropout.py`, as on a CPU, not by torch's dropout.

    The compiler draws the numbers of the latter within the kernels that use them, unless it is told not to.
    """
    return pick_device().type == "cpu"


def kind_of_cpu() -> str:
    """Return the instructions that compiled code is made for, as far as it differs by them."""
    return f"{torch.backends.cpu.get_cpu_capability()}{' AMX' * torch.cpu._is_amx_tile_supported()}"


def remove_torn(error: Exception) -> set[Path]:
    """Remove the compiled files of the compiler's store that `error` says cannot be loaded; return them.

    A compiler that was killed, or a full disk, leaves half a file there, which every later run would stumble over.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    named = [Path(name) for name in re.findall(r"[^\s:'\"]+\.(?:so|pyd|dylib)\b", str(error))]
    torn = {path for path in named if path.is_relative_to(cache_dir()) and path.is_file()}
    for path in torn:
        path.unlink(missing_ok=True)
    return torn


@contextmanager
def gradients_added_in_order() -> Iterator[None]:
    """Make what is traced meanwhile add up the gradients of a word in the order of its places, as uncompiled code does.

    The compiler's own loop lets several threads add to a word at once, so that on two threads the last bits of the word
    embeddings differ from one run of a seed to the next. Its table of such loops is put back for whoever else compiles
    in this process.
    """
    from torch._inductor import decomposition, lowering

    operator, table = torch.ops.aten.embedding_dense_backward, decomposition.decompositions
    with _TABLE:
        usual = table.pop(operator.default, None)
        if operator.default not in lowering.lowerings:
            lowering.make_fallback(operator, warn=False)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            if usual is not None:
                table[operator.default] = usual


def compiled_where_trained(function: F, *, dynamic: bool | None = False) -> F:
    """Return `function` compiled where gradients are wanted, and as it is elsewhere: evaluation needs no other code."""
    compiled = torch.compile(function, dynamic=dynamic, options=_options())

    @wraps(function)
    def chosen(*arguments: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return function(*arguments, **named)
        with gradients_added_in_order(), torch._dynamo.config.patch(recompile_limit=MOST_SHAPES):
            return compiled(*arguments, **named)

    return cast(F, chosen)


def why_not(attempt: Callable[[], None], *, drops: bool) -> str | None:
    """Return None where `attempt()` runs compiled code that was not run before; else the reason in one line.

    Memory that runs out in the attempt is raised, unless a C++ compiler beside it had too little.
    """
    removed: set[Path] = set()
    while True:
        try:
            with torch._functorch.config.patch(aggressive_recomputation=drops and own_random_numbers()):
                attempt()
            return None
        except Exception as error:
            if is_out_of_memory(error) and "C++ compile error" not in str(error):
                raise
            torch.compiler.reset()
            torn = remove_torn(error) - removed  # one that fails again, made anew, is not torn
            if not torn:
                return _in_one_line(error)
            removed |= torn


def try_compiled_blocks(blocks: Iterable[nn.Module], attempt: Callable[[], None], *, drops: bool) -> str | None:
    """Compile the blocks of a model in place for rows of any number and length, if `attempt()` runs; else say why not.

    Memory that runs out in the attempt is raised.

    All blocks share one graph (the last, which computes fewer positions, has one of its own), so that this takes a
    third of the time of compiling the model whole and leaves the same speed where every batch has another length.
    """
    blocks = list(blocks)
    for block in blocks:
        block.compile(dynamic=True, options=_options())
    reason = why_not(attempt, drops=drops)
    for block in blocks if reason else []:
        block._compiled_call_impl = None
    return reason


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:160]}"


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
