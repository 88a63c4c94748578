"""Compiles code where the compiler works, and keeps it from what it is known to do wrong."""

from __future__ import annotations

import math
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar, cast

import torch
import torch._functorch.config
import torch._inductor.config
from torch import Tensor, nn

from bertwright.device import pick_device
from bertwright.errors import is_out_of_memory

AUTOCAST = ("torch.amp.autocast_mode._enter_autocast", "torch.amp.autocast_mode._exit_autocast")
"""What autocast leaves in a graph, its arguments with it, so that a graph can be kept by its text as any other; the
compiler does not know that, and would trace the step again in every process, which is most of the time it takes."""
_TABLE = RLock()
"""Held while the compiler's table is another one."""
MOST_SHAPES = 64
"""Kinds of input that one function is compiled for: the blocks of a model are one function, and differ."""
GRAPH_CALLS = 3
"""Calls after which all of a CUDA graph has been tried: one warms up, one records, one replays."""
ALIKE = 0.2
"""How far gradients of compiled code may be from those of uncompiled code, relative to their norm: rounding, also of
what an objective draws by its own scores, stays well below, and code that is wrong far above."""
ARCHITECTURE = "native -fno-tree-slp-vectorize"
"""What C++ is compiled for on x86. GCC 12.2, the compiler of Debian 12, joins single moves of the 32 x 32 transposition
of bfloat16 into vectors (at -O3, by the generic cost model, so on Intel's processors with AVX512) and reads the stack
where nothing was written: gradients of rotated keys were wrong."""
F = TypeVar("F", bound=Callable[..., Any])


class OtherGradientsError(Exception):
    """Compiled code gives other gradients than uncompiled code."""


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
    options: dict[str, Any] = {}
    on_x86 = sys.platform == "linux" and platform.machine() == "x86_64"
    if on_x86 and getattr(torch._inductor.config.cpp, "march", "") is None:  # as it is where nobody has set it
        options["cpp.march"] = ARCHITECTURE
    return options | {
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

    The attempt runs forward and backward, before it and after, and leaves no gradients; on a CPU those of the blocks
    must be alike. Memory that runs out in it is raised.

    All blocks share one graph (the last, which computes fewer positions, has one of its own), so that this takes a
    third of the time of compiling the model whole and leaves the same speed where every batch has another length.
    """
    blocks = nn.ModuleList(blocks)
    expected = gradients_of(attempt, blocks) if own_random_numbers() else None

    def attempts() -> None:
        found = gradients_of(attempt, blocks)
        if expected is not None:
            check_alike(found, expected)

    for block in blocks:
        block.compile(dynamic=True, options=_options())
    reason = why_not(attempts, drops=drops)
    for block in blocks if reason else []:
        block._compiled_call_impl = None
    return reason


def run_alike(compiled: Callable[[], None], uncompiled: Callable[[], None] | None, model: nn.Module) -> None:
    """Run two functions forward and backward, and raise OtherGradientsError where `model` gets others by the first.

    Leaves no gradients. On a GPU, whose compiled code drops other units, and without the second, only the first runs.
    """
    found = gradients_of(compiled, model)
    if uncompiled is not None and own_random_numbers():
        check_alike(found, gradients_of(uncompiled, model))


def gradients_of(run: Callable[[], None], model: nn.Module) -> dict[str, Tensor]:
    """Return the gradients that `run()` leaves in a model, by the names of its parameters, and take them from there."""
    model.zero_grad(set_to_none=True)
    run()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def check_alike(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise OtherGradientsError where gradients of compiled code are not those that are expected of it.

    Where these are not finite themselves there is nothing to compare.
    """
    nothing = torch.zeros(())
    apart = (found.get(name, nothing) - expected.get(name, nothing) for name in dict.fromkeys([*expected, *found]))
    norm, distance = norm_of(expected.values()), norm_of(apart)
    if math.isfinite(norm) and not distance <= ALIKE * norm:
        raise OtherGradientsError(f"its gradients are {distance:.3g} away from uncompiled code's, of norm {norm:.3g}")


def norm_of(tensors: Iterable[Tensor]) -> float:
    """Return the Euclidean norm of all numbers of some tensors together."""
    return math.sqrt(sum(float(one.square().sum()) for one in tensors))


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:160]}"
