"""Says how large a model is: the settings, the named sizes, and what a step of a given size costs to compute.

Sizes are those of Devlin et al. (2018) and Turc et al. (2019): heads of 64 units, an inner layer four times as wide.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from bertwright.config import Section
from bertwright.errors import ConfigError

SIZES: dict[str, tuple[int, int, int, int]] = {
    # name: (layers, hidden_size, heads, intermediate_size)
    "tiny": (2, 128, 2, 512),
    "mini": (4, 256, 4, 1024),
    "small": (4, 512, 8, 2048),
    "medium": (8, 512, 8, 2048),
    "base": (12, 768, 12, 3072),
    "large": (24, 1024, 16, 4096),
}


class ModelConfig(Section):
    """The shape of a BERT model; the defaults are those published in 2018."""

    vocab_size: int = Field(ge=1)
    """Words of the vocabulary, unused ones included."""
    hidden_size: int = Field(ge=1)
    """Width of the hidden states."""
    layers: int = Field(ge=1)
    """Transformer blocks."""
    heads: int = Field(ge=1)
    """Attention heads of a block; must divide hidden_size."""
    intermediate_size: int = Field(ge=1)
    """Width of the inner layer of a block."""
    max_positions: int = Field(default=512, ge=1)
    """Longest row of tokens the model can read."""
    type_vocab_size: int = Field(default=2, ge=1)
    """Kinds of segments (A and B)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of hidden units dropped after the embeddings and at the end of both halves of a block."""
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of attention probabilities dropped."""
    layer_norm_eps: float = Field(default=1e-12, gt=0)
    """What keeps a LayerNorm from dividing by zero."""
    initializer_range: float = Field(default=0.02, gt=0)
    """Standard deviation of the truncated normal that matrices and embeddings are drawn from."""
    pad_token_id: int = Field(default=0, ge=0)
    """Id of the padding token."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        return self


def named_size(name: str, *, vocab_size: int, **over: Any) -> ModelConfig:
    """Return the settings of one of SIZES, with other fields laid over; raises ConfigError for an unknown name.

    >>> named_size("mini", vocab_size=8192).hidden_size
    256
    """
    if name not in SIZES:
        raise ConfigError(f"unknown size {name!r}; the sizes are {', '.join(SIZES)}")
    layers, hidden_size, heads, intermediate_size = SIZES[name]
    fields = {
        "layers": layers,
        "hidden_size": hidden_size,
        "heads": heads,
        "intermediate_size": intermediate_size,
    }
    return ModelConfig(vocab_size=vocab_size, **(fields | over))


def parameter_count(config: ModelConfig) -> int:
    """Return the number of weights of a BertForPreTraining of this shape, the tied ones counted once."""
    width, inner = config.hidden_size, config.intermediate_size
    norm = 2 * width
    embeddings = (config.vocab_size + config.max_positions + config.type_vocab_size) * width + norm
    attention = 4 * (width * width + width) + norm
    mlp = (width * inner + inner) + (inner * width + width) + norm
    pooler = width * width + width
    mlm_head = (width * width + width) + norm + config.vocab_size
    nsp_head = 2 * width + 2
    return embeddings + config.layers * (attention + mlp) + pooler + mlm_head + nsp_head


def training_flops(config: ModelConfig, *, rows: int, length: int, masked: int) -> int:
    """Return the useful floating-point operations of one step (forward and backward) over a batch.

    With T = rows x length tokens, width H, inner width I, vocabulary V and `masked` slots a row, the forward pass is

        layers x (8 T H^2  +  4 T H I  +  4 T length H)      q, k, v, out; the inner layer; scores and values
        + 2 rows H^2 + 4 rows H                              pooler and next-sentence head
        + 2 rows masked (H^2 + H V)                          MLM transform and vocabulary, at masked positions alone

    counting two operations for a multiply and add, matrix products only; the backward pass costs twice that. Padding
    counts as computed, since it is; recomputation would not count, since it is no use to anyone.
    """
    width, inner, tokens = config.hidden_size, config.intermediate_size, rows * length
    block = 8 * tokens * width * width + 4 * tokens * width * inner + 4 * tokens * length * width
    sentence = 2 * rows * width * width + 4 * rows * width
    vocabulary = 2 * rows * masked * width * (width + config.vocab_size)
    return 3 * (config.layers * block + sentence + vocabulary)
