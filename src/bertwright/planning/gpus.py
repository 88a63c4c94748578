"""Names GPUs that a plan can be made for without having one: what their makers say they compute and hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bertwright.errors import UsageError

SHARE, FULL_WIDTH = 0.45, 768
"""Fraction of a GPU's peak that training reaches from this width on, and below it in proportion to the width: an
assumption, as none of these was at hand."""


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    flops   operations a second of dense matrix products, in bfloat16 where it has that, else in float16
    memory  bytes
    source  where these figures stand
    precision  that of the figure
    """

    flops: float
    memory: float
    source: str
    precision: Literal["bf16", "fp16"] = "bf16"

    def rate(self, width: int) -> float:
        """Return the useful operations a second that training a model of a width is taken to reach."""
        return self.flops * SHARE * min(1.0, width / FULL_WIDTH)


GPUS: dict[str, Gpu] = {
    "t4": Gpu(65e12, 16e9, "NVIDIA T4 data sheet: 65 TFLOPS in float16; it has no bfloat16", "fp16"),
    "v100": Gpu(125e12, 32e9, "NVIDIA V100 data sheet, SXM2: 125 TFLOPS in float16; it has no bfloat16", "fp16"),
    "rtx3090": Gpu(71e12, 24e9, "NVIDIA Ampere GA102 whitepaper, table 9: bfloat16 tensor, dense"),
    "rtx4090": Gpu(165.2e12, 24e9, "NVIDIA Ada GPU architecture whitepaper, table 2: bfloat16 tensor, dense"),
    "a10": Gpu(125e12, 24e9, "NVIDIA A10 data sheet: bfloat16 tensor, dense"),
    "l4": Gpu(121e12, 24e9, "NVIDIA L4 data sheet: 242 TFLOPS in bfloat16 with sparsity, half of that dense"),
    "l40s": Gpu(362e12, 48e9, "NVIDIA L40S data sheet: bfloat16 tensor, dense"),
    "a100-40gb": Gpu(312e12, 40e9, "NVIDIA A100 data sheet: bfloat16 tensor, dense"),
    "a100": Gpu(312e12, 80e9, "NVIDIA A100 data sheet: bfloat16 tensor, dense"),
    "h100-pcie": Gpu(756e12, 80e9, "NVIDIA H100 data sheet, PCIe: 1,513 TFLOPS with sparsity, half of that dense"),
    "h100": Gpu(989.4e12, 80e9, "NVIDIA H100 data sheet, SXM: 1,979 TFLOPS with sparsity, half of that dense"),
    "h200": Gpu(989.4e12, 141e9, "NVIDIA H200 data sheet, SXM: 1,979 TFLOPS with sparsity, half of that dense"),
    "b200": Gpu(2250e12, 180e9, "NVIDIA DGX B200 data sheet: 36 PFLOPS of eight with sparsity, half of that dense"),
}
"""GPUs by the names that --gpu takes."""


def gpu_named(name: str) -> Gpu:
    """Return a GPU of the table; raises UsageError with its names for another."""
    if name.lower() not in GPUS:
        raise UsageError(
            f"--gpu {name} is not in the table; give one of {', '.join(GPUS)}, or leave it out to measure this machine"
        )
    return GPUS[name.lower()]
