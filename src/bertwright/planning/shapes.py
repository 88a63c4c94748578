"""Says in a sentence where the shape of a model makes its matrix products slower than they need be."""

from __future__ import annotations

from bertwright.model.config import ModelConfig

WIDTHS, HEADS = 64, 8
"""What widths and heads should be multiples of: kernels compute blocks of 64 columns, and load eight numbers at once
(NVIDIA, "Matrix Multiplication Background User's Guide", section 4; oneDNN's bfloat16 kernels have blocks of 64)."""


def shape_warnings(shape: ModelConfig) -> list[str]:
    """Return a sentence for each width that products do badly with, and what to give instead.

    >>> from bertwright.model.config import BertConfig
    >>> shape_warnings(BertConfig(vocab_size=100, layers=2, hidden_size=256, heads=4, intermediate_size=1024))
    []
    """
    widths = {"width": shape.hidden_size, "inner layer": shape.intermediate_size}
    odd = [
        f"the {name} {size} is no multiple of {WIDTHS}, which matrix products compute in blocks; take "
        f"{_near(size, WIDTHS)}"
        for name, size in widths.items()
        if size % WIDTHS
    ]
    head = shape.hidden_size // shape.heads
    if head % HEADS:
        odd.append(
            f"heads of {head} units are no multiple of {HEADS}, and attention falls back to slow kernels; take heads "
            f"of {_near(head, HEADS)} or of 64"
        )
    return odd


def _near(size: int, block: int) -> int:
    """Return the multiple of `block` that is nearest to a size."""
    return max(block, round(size / block) * block)
