"""Turns hidden states into scores: which word was hidden here, and does the second segment follow the first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bertwright.model.config import BertConfig, ModelConfig
from bertwright.model.layers.activations import ACTIVATIONS
from bertwright.model.layers.linear import Linear, linear


class Pooler(nn.Module):
    """Turns the hidden state of [CLS] into a vector of the row: a dense layer and, in BERT, tanh."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.pooler_act]

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [B, H] from hidden states [B, S, H]."""
        return self.activation(self.dense(hidden[:, 0]))


class TransformHead(nn.Module):
    """A head that begins with a dense layer as wide as the embeddings, GELU as a rule, and LayerNorm."""

    def __init__(self, config: ModelConfig, *, bias: bool) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.embedding_width, bias=bias)
        self.norm = nn.LayerNorm(config.embedding_width, eps=config.layer_norm_eps, bias=bias)
        self.activation = ACTIVATIONS[config.head_act]

    def transform(self, hidden: Tensor) -> Tensor:
        """Return [..., E] from hidden states [..., H]; ModernBERT's tasks go on from that of the masked-token head."""
        transformed: Tensor = self.norm(self.activation(self.dense(hidden)))
        return transformed


class MaskedTokenHead(TransformHead):
    """Scores every word of the vocabulary: the transform, then vectors of the words, their embeddings, and a bias."""

    def __init__(self, config: ModelConfig, *, bias: bool = True) -> None:
        super().__init__(config, bias=bias)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        """Return logits [..., V] from hidden states [..., H] and vectors of the words [V, E]."""
        return self.score(self.transform(hidden), words)

    def score(self, vectors: Tensor, words: Tensor) -> Tensor:
        """Return logits [..., V] of vectors [..., E] such as the transform returns."""
        return linear(vectors, words, self.bias)


class ModernNextSentenceHead(TransformHead):
    """Scores (B continues A, B comes from another document) from the hidden state of [CLS].

    Dense, GELU, LayerNorm, linear: weight for weight the head of ModernBertForSequenceClassification (Warner et al.,
    2024), which could read the mean of all tokens too. On 2,400 short documents of fixed phrases (size tiny, 300 steps,
    two seeds) balanced accuracy was 72.2% and 74.4% from [CLS], 62.8% and 64.7% from the mean, whose last block must
    compute every token.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, bias=False)
        self.classifier = Linear(config.hidden_size, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits [B, 2] from hidden states [B, S, H]."""
        logits: Tensor = self.classifier(self.transform(hidden[:, 0]))
        return logits


class ReplacedTokenHead(nn.Module):
    """Scores whether each token was replaced, from its hidden state: dense, GELU, linear (Clark et al. 2020)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.classifier = Linear(config.hidden_size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits [...] from hidden states [..., H]: above 0 where a token was more likely replaced than not."""
        logits: Tensor = self.classifier(self.activation(self.dense(hidden))).squeeze(-1)
        return logits


class NextSentenceHead(nn.Module):
    """Scores (B continues A, B comes from another document) from the vector of the row."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, 2)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits [B, 2] from pooled vectors [B, H]."""
        logits: Tensor = self.dense(pooled)
        return logits
