"""Decides which kernel attends: on a GPU one that reads no numbers for pairs of tokens, wherever there is such a one.

A pure function of what is known before any number is read, so that it can be tested, and printed, on any machine.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bertwright.batch_layout import RowLayout

Kernel = Literal["cpu", "no mask", "varlen", "flex", "mask"]
Rows = Literal["full", "padded", "packed"]

NAMES: dict[Kernel, str] = {
    "cpu": "products and exponentials, for CPUs",
    "no mask": "scaled_dot_product_attention without a mask",
    "varlen": "FlashAttention over the tokens of each document (varlen)",
    "flex": "flex_attention (blocks of pairs that see nothing of each other are skipped)",
    "mask": "scaled_dot_product_attention with a mask of all pairs",
}
"""What each kernel is called where people read it."""
FLASH_TYPES = (torch.bfloat16, torch.float16)
FLASH_CAPABILITY = (8, 0)
"""GPUs from which on FlashAttention runs: Ampere."""
FLASH_WIDTH = 256
"""Units of the widest head that FlashAttention takes; with dropout, some GPUs stop earlier:"""
FLASH_DROPPING_WIDTH = 128


@dataclass(frozen=True)
class AttentionCall:
    """What is known of a call of attention before it is made.

    device      "cpu" or "cuda"
    capability  of the GPU, such as (9, 0); (0, 0) of a CPU
    dtype       of queries, keys and values
    width       units of a head
    rows        full: no padding, one document each; padded: one document each; packed: several
    length      tokens of a row
    window      tokens that a query attends to, half of them on either side; None for all
    causal      whether a token attends to itself and those before it alone
    dropout     fraction of the weights that are dropped
    compiled    whether the compiler reads the call
    scores      whether scores must be written down, which kernels never do: somebody adds to them, or looks at weights
    counted     whether it is known how many documents packed rows hold at most (see `RowLayout`)
    """

    device: str
    capability: tuple[int, int]
    dtype: torch.dtype
    width: int
    rows: Rows
    length: int
    window: int | None = None
    causal: bool = False
    dropout: float = 0.0
    compiled: bool = False
    scores: bool = False
    counted: bool = False


def kernel_for(call: AttentionCall) -> Kernel:
    """Return the kernel of a call.

    >>> call = AttentionCall("cuda", (9, 0), torch.bfloat16, width=64, rows="padded", length=512)
    >>> kernel_for(call)
    'varlen'
    """
    if call.device != "cuda":
        return "cpu"
    window = call.window is not None and call.window // 2 < call.length - 1
    if call.scores:
        return "mask"
    # Padding ends a row, so that no token of causal rows sees any.
    if not window and (call.rows == "full" or (call.causal and call.rows == "padded")):
        return "no mask"
    if has_flash(call) and call.width % 8 == 0 and (call.rows != "packed" or call.counted):
        return "varlen"
    # flex_attention drops no weights, and uncompiled it computes all pairs, as a mask does, only slower.
    return "flex" if call.compiled and call.rows == "packed" and call.dropout == 0 else "mask"


def has_flash(call: AttentionCall) -> bool:
    """Return whether FlashAttention takes numbers of this type on this GPU, and drops weights if it is asked to."""
    widest = FLASH_DROPPING_WIDTH if call.dropout > 0 else FLASH_WIDTH
    return call.dtype in FLASH_TYPES and call.capability >= FLASH_CAPABILITY and call.width <= widest


def kernel_name(kernel: Kernel, call: AttentionCall) -> str:
    """Return the name of a kernel, with what torch runs behind it where that follows from the call."""
    flash = " (FlashAttention)" if kernel == "no mask" and has_flash(call) else ""
    return f"{NAMES[kernel]}{flash}"


def rows_of(documents: Tensor | None, layout: RowLayout) -> Rows:
    """Return which kind of rows a batch has, without looking at its numbers."""
    if layout.full:
        return "full"
    return "padded" if documents is None else "packed"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def capability_of(index: int) -> tuple[int, int]:
    """Return the capability of GPU `index`; (0, 0) where there is none, as when shapes alone are computed."""
    return torch.cuda.get_device_capability(index) if torch.cuda.is_available() else (0, 0)


def reach_of(window: int | None, *, causal: bool) -> tuple[int, int]:
    """Return how many tokens before it and after it a token attends to; -1 stands for all."""
    side = -1 if window is None else window // 2
    return side, 0 if causal else side


def attend_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sequences: Tensor,
    *,
    longest: int,
    reach: tuple[int, int],
    dropout: float = 0.0,
) -> Tensor:
    """Return [T, A, H/A]: each token of [T, A, H/A] attends to those of its sequence that are within `reach`.

    Sequence i lies between `sequences` [N + 1] int32 i and i + 1, and has `longest` tokens at most; some may be empty.
    """
    if dropout > 0 or _varlen_attn is None:
        return flash_forward(query, key, value, sequences, longest, reach, dropout)
    found: Tensor = _varlen_attn(query, key, value, sequences, sequences, longest, longest, window_size=reach)
    return found


def flash_forward(
    query: Tensor, key: Tensor, value: Tensor, sequences: Tensor, longest: int, reach: tuple[int, int], dropout: float
) -> Tensor:
    """Call what is behind `varlen_attn`, which knows no dropout, and in older versions of torch no windows."""
    found: Tensor = torch.ops.aten._flash_attention_forward(
        query, key, value, sequences, sequences, longest, longest, dropout, reach == (-1, 0), False,
        window_size_left=reach[0], window_size_right=reach[1],
    )[0]  # fmt: skip
    return found


def _find_varlen() -> Callable[..., Any] | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


_varlen_attn = _find_varlen()
