"""ModernBERT (Warner 2024): LayerNorm before each half of a block, rotary positions, gated inner layer, no biases.

Trains with much higher rates than BERT, since the residual path is never normalised (Xiong et al., 2020, "On Layer
Normalization in the Transformer Architecture"). It has no token types, and a next-sentence head where the settings ask
for one.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.batch_layout import UNKNOWN_ROWS, RowLayout
from bertwright.model.config import ModelConfig, ModernConfig
from bertwright.model.encoder import Encoder, HeadType
from bertwright.model.heads import MaskedTokenHead, ModernNextSentenceHead
from bertwright.model.init.noise import draw_weights
from bertwright.model.layers.attention import Attention, gather_positions, rotary_angles
from bertwright.model.layers.attention_mask import AttentionMask, LongRowMask
from bertwright.model.layers.dropout import Dropout
from bertwright.model.layers.linear import Linear, linear
from bertwright.model.layers.on_gpu import on_gpu


class ModernEmbeddings(nn.Module):
    """Word embeddings, normalised; positions come in as rotations."""

    def __init__(self, config: ModernConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.norm = layer_norm(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None = None, documents: Tensor | None = None
    ) -> Tensor:
        """Return hidden states [B, S, H] of token ids [B, S], whatever their types and documents."""
        hidden: Tensor = self.dropout(self.norm(self.words(input_ids)))
        return hidden


class GatedInner(nn.Module):
    """The inner layer of a block: GELU of one projection times another (GeGLU, Shazeer 2020)."""

    def __init__(self, config: ModernConfig) -> None:
        super().__init__()
        self.inner = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.gate = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.outer = Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.dropout = Dropout(config.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [B, S, H] from [B, S, H]."""
        inner, gate = self._expand(hidden)
        projected: Tensor = self.outer(self.dropout(functional.gelu(inner) * gate))
        return projected

    def _expand(self, hidden: Tensor) -> tuple[Tensor, ...]:
        """Return both projections; on a CPU one product of twice the width is faster than two.

        The parameters stay apart: Muon still finds the two matrices of the paper.
        """
        if on_gpu(hidden):
            return self.inner(hidden), self.gate(hidden)
        return linear(hidden, torch.cat([self.inner.weight, self.gate.weight]), None).chunk(2, dim=-1)


class ModernBlock(nn.Module):
    """Pre-LayerNorm Transformer block; the first has no norm before attention, since the embeddings have one."""

    def __init__(self, config: ModernConfig, *, first: bool) -> None:
        super().__init__()
        self.attention_norm = nn.Identity() if first else layer_norm(config)
        self.attention = Attention(config, bias=False)
        self.dropout = Dropout(config.attention_dropout)
        self.mlp_norm = layer_norm(config)
        self.mlp = GatedInner(config)

    def forward(
        self, hidden: Tensor, mask: AttentionMask | LongRowMask, rotation: Tensor, at: Tensor | None = None
    ) -> Tensor:
        """Return hidden states [B, S, H] from hidden states, the mask of their rows, and rotary angles.

        With `at` [B, M] those at these positions alone, [B, M, H].
        """
        residual = hidden if at is None else gather_positions(hidden, at)
        attended = residual + self.dropout(self.attention(self.attention_norm(hidden), mask, rotation, at))
        summed: Tensor = attended + self.mlp(self.mlp_norm(attended))
        return summed


class ModernForMaskedLM(Encoder):
    """ModernBERT with its masked-token head and, where the settings ask for it, a next-sentence head."""

    config_type: ClassVar[type[ModelConfig]] = ModernConfig
    config: ModernConfig
    embeddings: ModernEmbeddings

    def __init__(self, config: ModernConfig, *, drawn: bool = True) -> None:
        """Draw the weights from torch's default generator; not `drawn`, for those who load others, they are any."""
        super().__init__()
        self.config = config
        self.embeddings = ModernEmbeddings(config)
        self.blocks = nn.ModuleList(ModernBlock(config, first=block == 0) for block in range(config.layers))
        self.norm = layer_norm(config)
        self.mlm_head = MaskedTokenHead(config, bias=False)
        self._add_output_words()
        width = config.hidden_size // config.heads
        for kind, theta in (("global", config.global_theta), ("local", config.local_theta)):
            angles = rotary_angles(config.max_positions, width, theta=theta)
            self.register_buffer(f"{kind}_rotation", angles, persistent=False)
        if drawn:
            draw_weights(self, std=config.initializer_range)
            self._initialise_outputs()
        self.has_nsp_head = config.next_sentence
        if config.next_sentence:  # made and drawn last: the other weights are those of a model without this head
            self.nsp_head = ModernNextSentenceHead(config)
            if drawn:
                draw_weights(self.nsp_head, std=config.initializer_range)

    def block_inputs(
        self,
        attention_mask: Tensor,
        documents: Tensor | None,
        *,
        causal: bool = False,
        layout: RowLayout = UNKNOWN_ROWS,
    ) -> list[tuple[Any, ...]]:
        """Return for each block the mask of rows [B, S] and its rotary angles: of whole rows, or of a window."""
        length = attention_mask.shape[1]
        # Copied, the angles look alike to the compiler in rows of every length, the longest too.
        angles = {kind: torch.cat([self.get_buffer(f"{kind}_rotation")[:, :length]]) for kind in ("global", "local")}
        rows: dict[str, Any] = {"causal": causal, "layout": layout}
        whole = local = (self.build_mask(attention_mask, documents, **rows), angles["global"])
        if self.config.global_every > 1:
            window = self.build_mask(attention_mask, documents, window=self.config.local_window, **rows)
            local = (window, angles["local"])
        return [whole if self.config.is_global(index) else local for index in range(self.config.layers)]

    @property
    def windows(self) -> tuple[int | None, ...]:
        """All tokens, and in local blocks those around."""
        return (None, self.config.local_window) if self.config.global_every > 1 else (None,)

    def nsp_logits(self, hidden: Tensor) -> Tensor | None:
        """Return logits [B, 2] (B continues A, B comes from elsewhere) from hidden states, [CLS] first, or None."""
        return self.nsp_head(hidden) if self.has_nsp_head else None

    def drop_heads(self, head_type: HeadType | None = None) -> None:
        """Delete the pre-training heads; tasks go on from all of the MLM head but its bias (Warner et al., 2024)."""
        if head_type is None:
            del self.mlm_head
        else:
            del self.mlm_head.bias
        if hasattr(self, "output_words"):
            del self.output_words
        if self.has_nsp_head:
            del self.nsp_head
            self.has_nsp_head = False

    def head_inputs(self, hidden: Tensor, head_type: HeadType) -> Tensor:
        """Return the hidden states after the dense layer and norm of the masked-token head."""
        return self.mlm_head.transform(hidden)

    def _initialise_outputs(self) -> None:
        """Shrink what is added to the residual path by sqrt(2 layers), so that it does not grow with depth (GPT-2)."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith(("attention.output.weight", "mlp.outer.weight")):
                    parameter.div_(math.sqrt(2 * self.config.layers))


def layer_norm(config: ModernConfig) -> nn.LayerNorm:
    """Return a LayerNorm without bias."""
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)
