"""One Transformer block as in 2018: attention, then an inner layer, each added to its input and normalised after."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from bertwright.model.config import BertConfig
from bertwright.model.layers.attention import Attention, gather_positions
from bertwright.model.layers.attention_mask import AttentionMask, LongSight
from bertwright.model.layers.dropout import Dropout
from bertwright.model.layers.linear import Linear


class Block(nn.Module):
    """Post-LayerNorm Transformer block (Vaswani 2017) with an exact GELU (Hendrycks and Gimpel 2016)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config, bias=True)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.inner = Linear(config.hidden_size, config.intermediate_size)
        self.outer = Linear(config.intermediate_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, hidden: Tensor, sight: AttentionMask | LongSight, at: Tensor | None = None) -> Tensor:
        """Return hidden states [B, S, H] from hidden states and what they look at; [B, M, H] with `at`."""
        asked = hidden if at is None else gather_positions(hidden, at)
        attended = self.attention_norm(asked + self.dropout(self.attention(hidden, sight, at=at)))
        expanded = functional.gelu(self.inner(attended))
        normalised: Tensor = self.norm(attended + self.dropout(self.outer(expanded)))
        return normalised
