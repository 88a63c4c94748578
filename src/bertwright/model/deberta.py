"""DeBERTa-v2 and -v3 (He et al. 2021, 2023): BERT's blocks, whose attention reads distances instead of positions.

A score is the sum of three products: of query and key, of query and the vector of the distance between them, and of
that vector and the key. Distances up to half the buckets have a vector each, farther ones share vectors, more and more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from bertwright.batch_layout import UNKNOWN_ROWS, RowLayout
from bertwright.model.bert import BertForPreTraining, Block, Embeddings
from bertwright.model.config import Activation, BertConfig, ModelConfig
from bertwright.model.layers.attention import Attention, gather_positions
from bertwright.model.layers.attention_mask import AttentionMask, LongRowMask, build_mask
from bertwright.model.layers.dropout import Dropout

SCORES = 3
"""Products that a score is the sum of."""


class DebertaConfig(BertConfig):
    """The shape of a DeBERTa of version 2 or 3 that has neither token types nor a convolution."""

    reads_token_types: ClassVar[bool] = False
    pooler_act: ClassVar[Activation] = "gelu"

    type_vocab_size: int = Field(default=0, ge=0, le=0)
    """None."""
    layer_norm_eps: float = Field(default=1e-7, gt=0, le=1)
    """What keeps a LayerNorm from dividing by zero."""
    position_buckets: int = Field(default=256, ge=4)
    """Vectors for distances of either sign."""
    max_relative_positions: int = Field(default=-1, ge=-1)
    """Distance from which all share the last vector; max_positions where below 1."""
    legacy: bool = False
    """Whether the MLM head has the names, as BERT's, of folders before version 3."""

    @property
    def farthest(self) -> int:
        """Distance from which all share the last vector."""
        return self.max_positions if self.max_relative_positions < 1 else self.max_relative_positions

    @property
    def position_rows(self) -> int:
        """None: blocks read distances."""
        return 0

    @property
    def embedding_rows(self) -> int:
        """Words, and distances of either sign."""
        return self.vocab_size + self.distance_vectors

    @property
    def distance_vectors(self) -> int:
        """One for each bucket of either sign."""
        return 2 * self.position_buckets

    @property
    def row_weights(self) -> int:
        """None: it has no next-sentence head."""
        return 0


class DebertaEmbeddings(Embeddings):
    """Word embeddings, normalised, and the vectors of distances, which blocks read."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        assert isinstance(config, DebertaConfig)
        self.distances = nn.Embedding(config.distance_vectors, config.hidden_size)
        self.distance_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def distance_vectors(self) -> Tensor:
        """Return [2 K, H]: the vectors of K buckets of either sign, normalised."""
        vectors: Tensor = self.distance_norm(self.distances.weight)
        return vectors


@dataclass(frozen=True, kw_only=True)
class DistanceMask(AttentionMask):
    """What each token of a batch attends to, and how far away it is.

    vectors  [2 K, H]  of the buckets of distances
    buckets  [S, S] int64  the row of `vectors` that stands for the distance from a query to a key
    """

    vectors: Tensor
    buckets: Tensor


class DisentangledAttention(Attention):
    """Attention whose scores see distances; queries and keys of these are projected as those of tokens are."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, bias=True)
        self.distance_dropout = Dropout(config.dropout, rows=False)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask | LongRowMask, at: Tensor | None = None
    ) -> Tensor:
        """Return [B, A, M, H/A], what each head found."""
        assert isinstance(mask, DistanceMask)
        vectors = self.distance_dropout(mask.vectors)[None]
        far_query, far_key = self.fused_projection(vectors, [self.query, self.key])  # [1, A, 2 K, H/A] each
        query = query * SCORES**-0.5
        far_query = far_query * SCORES**-0.5
        bias, buckets = mask.bias, mask.buckets[None]
        if at is not None:
            buckets = mask.buckets[at]
            whole = bias[:, 0].expand(len(at), -1, -1)
            bias = gather_positions(whole, at)[:, None] if bias.shape[2] > 1 else bias
        rows, heads, count, width = query.shape
        shape = (rows, heads, count, key.shape[2])
        of_query = (query @ far_key.transpose(-1, -2)).gather(3, buckets[:, None].expand(shape))
        turned = buckets.transpose(1, 2)[:, None].expand(rows, heads, key.shape[2], count)
        of_key = (key @ far_query.transpose(-1, -2)).gather(3, turned).transpose(2, 3)
        return self._by_bias(query, key, value, bias + (of_query + of_key) * width**-0.5)


class DebertaBlock(Block):
    """BERT's block with disentangled attention."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.attention = DisentangledAttention(config)


class Deberta(BertForPreTraining):
    """DeBERTa with a masked-token head on its last hidden states."""

    config_type: ClassVar[type[ModelConfig]] = DebertaConfig
    config: DebertaConfig
    embeddings: DebertaEmbeddings
    embeddings_type: ClassVar[type[Embeddings]] = DebertaEmbeddings
    block_type: ClassVar[type[Block]] = DebertaBlock
    has_nsp_head = False
    bare_has_pooler: ClassVar[bool] = False
    adds_to_scores: ClassVar[bool] = True

    def __init__(self, config: DebertaConfig, *, drawn: bool = True) -> None:
        """Draw the weights from torch's default generator; not `drawn`, for those who load others, they are any."""
        super().__init__(config, drawn=drawn)
        table = bucket_of_distance(config.max_positions, buckets=config.position_buckets, farthest=config.farthest)
        self.register_buffer("buckets", table, persistent=False)

    def block_inputs(
        self,
        attention_mask: Tensor,
        documents: Tensor | None,
        *,
        causal: bool = False,
        layout: RowLayout = UNKNOWN_ROWS,
    ) -> list[tuple[Any, ...]]:
        """Return the mask of rows [B, S] with their distances, the same for each block.

        Distances are added to the scores of all pairs, which no kernel without a mask takes.
        """
        positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        distances = positions[:, None] - positions + self.config.max_positions - 1
        buckets = self.get_buffer("buckets")[distances]
        bias = build_mask(attention_mask, documents, causal=causal).bias
        mask = DistanceMask(bias, vectors=self.embeddings.distance_vectors(), buckets=buckets)
        return [(mask,)] * len(self.blocks)


def bucket_of_distance(positions: int, *, buckets: int, farthest: int) -> Tensor:
    """Return [2 positions - 1] int64: the bucket, 0 to 2 buckets - 1, of each distance from 1 - positions on.

    The middle one, `buckets`, is that of distance 0. Distances up to buckets / 2 have one each, those up to `farthest`
    are spread evenly by their logarithm (He et al. 2021, DeBERTa-v2).
    """
    distances = torch.arange(1 - positions, positions)
    half = buckets // 2
    far = torch.clamp(distances.abs(), min=half) / half
    steps = torch.log(far) / torch.log(torch.tensor((farthest - 1) / half)) * (half - 1)
    spread = (torch.ceil(steps) + half) * distances.sign()
    found = torch.where(distances.abs() <= half, distances.to(spread.dtype), spread)
    return (found.to(torch.int64) + buckets).clamp(0, 2 * buckets - 1)
