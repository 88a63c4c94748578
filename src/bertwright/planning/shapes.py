"""Says in a sentence where the shape of a model makes its matrix products slower than they need be."""

from __future__ import annotations

from bertwright.model.config import ModelConfig

WIDTHS, HEADS = 64, {"cuda": 8, "cpu": 16}
"""What widths on a GPU, and heads, should be multiples of. A GPU's kernels compute blocks of 64 columns and load eight
numbers at once (NVIDIA, "Matrix Multiplication Background User's Guide", section 4; none was at hand). On a CPU widths
make no difference (250 and 256, 770 and 768: within a tenth), but heads do in float32: attention with heads of 60 units
reaches 37 GFLOP/s and with heads of 64 units 60 (one core, AVX512)."""


def shape_warnings(shape: ModelConfig, *, device: str) -> list[str]:
    """Return a sentence for each size that products on a device, "cuda" or "cpu", do badly with, and what to give.

    >>> from bertwright.model.config import BertConfig
    >>> shape = BertConfig(vocab_size=9, layers=2, hidden_size=250, heads=5, intermediate_size=1000)
    >>> shape_warnings(shape, device="cpu")
    ['heads of 50 units are no multiple of 16, which attention is slow with; take heads of 48 or of 64 units']
    """
    widths = {"width": shape.hidden_size, "inner layer": shape.intermediate_size} if device == "cuda" else {}
    odd = [
        f"the {name} {size} is no multiple of {WIDTHS}, which a GPU computes products in; take {_near(size, WIDTHS)}"
        for name, size in widths.items()
        if size % WIDTHS
    ]
    head, block = shape.hidden_size // shape.heads, HEADS[device]
    if head % block:
        odd.append(
            f"heads of {head} units are no multiple of {block}, which attention is slow with; take heads of "
            f"{_near(head, block)} or of 64 units"
        )
    return odd


def _near(size: int, block: int) -> int:
    """Return the multiple of `block` that is nearest to a size."""
    return max(block, round(size / block) * block)
