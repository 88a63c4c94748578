"""Estimates the memory that training takes: state of the optimizer, activations of a step, scores of the vocabulary."""

from __future__ import annotations

from bertwright.model.config import ModelConfig

STATE = 20
"""Bytes a weight: itself, its gradient, up to two moments, and a copy of it to go back to, in float32."""
OF_WIDTH, OF_INNER = 12, 3
"""Numbers a token and block keep for the backward pass, in units of the width and of the inner layer: the inputs of
its products, query, key, value and what attention returns, both sums and both norms; the inner layer before and after
its activation, and a copy (Korthikanti et al., 2022, "Reducing Activation Recomputation in Large Transformer Models",
section 4.1, with attention that keeps no matrix of its own)."""


def step_memory(shape: ModelConfig, *, weights: int, rows: int, length: int, masked: int, bytes_each: int) -> int:
    """Return about how many bytes training takes; `masked` tokens a row are scored, numbers have `bytes_each`."""
    tokens = rows * length
    kept = tokens * shape.layers * (OF_WIDTH * shape.hidden_size + OF_INNER * shape.intermediate_size)
    scores = rows * masked * shape.vocab_size
    return STATE * weights + bytes_each * kept + (bytes_each + 8) * scores
