"""Builds the Triton kernels of a compiled training step for GPUs that are not there: results/kernels/kernels.json.

    PYTHONPATH=src python benchmarks/kernels_without_gpu.py --out results/kernels

Needs triton (here 3.8.0, in an environment of its own: torch for CPUs is enough) and g++. The model and its batch are
tensors without numbers on "cuda"; a few lines of C++ and the functions below stand for the GPU, whose properties are
those of an A100 (sm_80) or H100 (sm_90). torch.compile then traces, splits and fuses forward and backward pass as it
would there, and triton turns each kernel, in the first of the configurations that would be timed, into PTX and a cubin.

What it shows: the step is traced whole and every kernel is built. What it does not: that any of them runs, is right, or
fits beside others on a GPU. Kernels of cuBLAS and FlashAttention are not Triton's and are not built here, and which of
them scaled_dot_product_attention takes, torch for CPUs does not know: it is split into products here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch._functorch.config
import torch._inductor.async_compile
import torch._inductor.config
import torch._inductor.fx_passes.fuse_attention
import torch._inductor.fx_passes.misc_patterns
import torch._inductor.fx_passes.pad_mm
import torch._inductor.graph
from torch._subclasses.fake_tensor import FakeTensorMode

from bertwright.device import autocast, try_compiled
from bertwright.model.build import build_encoder
from bertwright.objectives.combine import build_objective
from bertwright.objectives.masking import masked_slots
from bertwright.train.setup.pretrain_config import resolve
from bertwright.train.step import forward_loss_of
from bertwright.types import MaskedBatch, RowLayout

GPUS = {80: ("NVIDIA A100", 108, 163 * 1024, 40 << 20), 90: ("NVIDIA H100", 132, 227 * 1024, 50 << 20)}
"""By target: name, multiprocessors, bytes of shared memory a block can have, bytes of the second cache."""
RUNS = {"classic": {}, "fast": {}, "fast, packed": {"data": {"pack": True}}}
"""Steps that are built: recipe, and settings."""
ROWS, LENGTH, VOCABULARY = 64, 128, 8192
STAND_IN = Path(__file__).with_name("cuda_stand_in.cpp")


class Driver:
    """Stands for triton's driver: it tells the target, and can start nothing."""

    def __init__(self, target: int) -> None:
        self.target = target

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.target, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)

    def get_device_interface(self) -> Any:
        return torch.cuda


def stand_in(target: int) -> None:
    """Have torch and triton take this machine for one with a GPU of `target`."""
    import triton
    from torch._dynamo.device_interface import CudaInterface
    from torch._inductor.runtime import triton_helpers

    name, processors, shared, cache = GPUS[target]
    capability = divmod(target, 10)
    properties = SimpleNamespace(
        name=name, major=capability[0], minor=capability[1], total_memory=80 << 30, multi_processor_count=processors,
        regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048, max_threads_per_block=1024, warp_size=32,
        L2_cache_size=cache, shared_memory_per_block=48 << 10, shared_memory_per_block_optin=shared,
        shared_memory_per_multiprocessor=shared + 1024, gcnArchName="",
    )  # fmt: skip
    triton.runtime.driver.set_active(Driver(target))
    for held, names in {
        torch.cuda: {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_properties": lambda *_: properties,
            "get_device_capability": lambda *_: capability,
            "is_bf16_supported": lambda *_, **__: True,
            "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
            "set_rng_state": lambda *_: None,
            "synchronize": lambda *_: None,
            "_exchange_device": lambda _: 0,
            "_maybe_exchange_device": lambda _: 0,
            "_lazy_init": lambda: None,
        },
        torch.accelerator: {"current_device_index": lambda: 0},
        torch._C: {"_cuda_getCurrentRawStream": lambda _: 0},
        torch.version: {"cuda": "13.0"},
        CudaInterface: {
            "get_device_properties": staticmethod(lambda *_: properties),
            "get_compute_capability": staticmethod(lambda *_: target),
            "is_available": staticmethod(lambda: True),
        },
        CudaInterface.Worker: {"get_device_properties": staticmethod(lambda *_: properties)},
        # Patterns of hand-written attention and odd shapes are found by tensors with numbers.
        torch._inductor.fx_passes.fuse_attention: {"_sfdp_init": lambda *_: None},
        torch._inductor.fx_passes.misc_patterns: {"_misc_patterns_init": lambda *_: None},
        torch._inductor.fx_passes.pad_mm: {"_pad_mm_init": lambda *_: None},
        triton_helpers: {"set_driver_to_gpu": lambda: None},
    }.items():
        for each, value in names.items():
            setattr(held, each, value)
    torch._functorch.config.force_non_lazy_backward_lowering = True
    torch._functorch.config.enable_autograd_cache = False
    torch._inductor.config.fx_graph_cache = False
    torch._inductor.config.compile_threads = 1
    torch._inductor.config.use_static_cuda_launcher = False  # what it keeps has no PTX
    torch._inductor.config.joint_graph_constant_folding = False  # it computes, if only constants


def batch(slots: int, *, pairs: bool, packed: bool) -> MaskedBatch:
    """Return a batch without numbers."""

    def made(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.empty(*shape, dtype=dtype, device="cuda")

    return MaskedBatch(
        input_ids=made(ROWS, LENGTH),
        token_type_ids=made(ROWS, LENGTH),
        attention_mask=made(ROWS, LENGTH, dtype=torch.bool),
        masked_positions=made(ROWS, slots),
        masked_labels=made(ROWS, slots),
        masked_weights=made(ROWS, slots, dtype=torch.float32),
        next_label=made(ROWS) if pairs else None,
        documents=made(ROWS, LENGTH) if packed else None,
        layout=RowLayout(full=False, sequences=4 * ROWS if packed else 0),
    )


def trace(run: str) -> tuple[list[tuple[str, str]], Counter[str], str | None]:
    """Return the Triton kernels of a step (name, source), how often others are called, and why it stopped if it did."""
    sources: list[tuple[str, str]] = []
    others: Counter[str] = Counter()

    def keep(_: object, name: str, source: str, device_str: str = "cuda") -> None:
        sources.append((name, source))

    def read(_: object, code: Any, *arguments: Any, **named: Any) -> Any:
        others.update(re.findall(r"(?:extern_kernels|torch\.ops\.\w+)\.[\w.]+(?=\()", code.value))
        return lowered(_, code, *arguments, **named)

    torch._inductor.async_compile.AsyncCompile.triton = keep
    lowered = torch._inductor.graph.GraphLowering._compile_to_module_lines
    torch._inductor.graph.GraphLowering._compile_to_module_lines = read
    config = resolve(run.partition(",")[0], {"size": "mini", "schedule": {"steps": 100}, **RUNS[run]})
    shape = config.shape(vocab_size=VOCABULARY, pad_token_id=0)
    objective = build_objective(config.objective, vocab_size=VOCABULARY, mask_id=4)
    device = torch.device("cuda", 0)
    with FakeTensorMode():
        with device:
            model = build_encoder(shape, drawn=False)
        example = batch(
            masked_slots(LENGTH, objective.rate_at(0.0) if hasattr(objective, "rate_at") else 0.15),
            pairs=objective.rows == "pairs",
            packed=config.data.pack,
        )
        step = forward_loss_of(model, objective, lambda: autocast("bf16", device))
        _, reason = try_compiled(step, lambda compiled: compiled(example), drops=shape.dropout > 0)
    return sources, others, reason


def build(target: int, run: str) -> dict[str, Any]:
    """Return what became of the kernels of a step."""
    stand_in(target)
    sources, others, reason = trace(run)
    from torch._inductor.async_compile import _load_triton_kernel_from_source

    built, failed, began = Counter[str](), {}, time.perf_counter()
    for name, source in sources:
        try:
            kernel = _load_triton_kernel_from_source(name, source)
            made = kernel._precompile_config(kernel.configs[0]).kernel.asm
            assert f".target sm_{target}" in made["ptx"]
            built.update({"kernels": 1, "ptx_bytes": len(made["ptx"]), "cubin_bytes": len(made["cubin"])})
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {str(error)[:200]}"
    return {
        **built,
        "failed": failed,
        "other_kernels_called": dict(others.most_common()),
        "stopped_at": reason,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """Build the stand-in, then each step for each target in a process of its own, and write what came of it."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path)
    words.add_argument("--run", choices=RUNS, help="build this step alone, in this process; not for people")
    words.add_argument("--target", type=int, choices=GPUS, default=90)
    given = words.parse_args()
    if given.run:
        print(json.dumps(build(given.target, given.run)))
        return
    import triton

    found: dict[str, Any] = {"torch": torch.__version__, "triton": triton.__version__}
    place = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch) / "stand_in.so"
        flags = ["-std=c++20", "-O1", "-shared", "-fPIC", f"-I{place}/include", f"-L{place}/lib"]
        linked = ["-lc10", "-ltorch_cpu", f"-Wl,-rpath,{place}/lib"]
        subprocess.run(["g++", *flags, str(STAND_IN), "-o", str(library), *linked], check=True)
        own = {"LD_PRELOAD": str(library), "TORCHINDUCTOR_CACHE_DIR": scratch, "TRITON_CACHE_DIR": f"{scratch}/triton"}
        for run in RUNS:
            for target in GPUS:
                command = [sys.executable, __file__, "--run", run, "--target", str(target)]
                done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
                lines = done.stdout.splitlines()
                came = json.loads(lines[-1]) if done.returncode == 0 and lines else {"failed": done.stderr[-500:]}
                found.setdefault(run, {})[f"sm_{target}"] = came
                print(run, target, came, file=sys.stderr, flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "kernels.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
