"""Turns the beginning of a text, and hidden states of another, into scores of its next word: BERT as a decoder.

The decoder of Vaswani et al. (2017, section 3.1) with the layers of BERT, so that it can start from BERT's weights
(Rothe et al. 2020, "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks"): each token attends to those
before it, then to the whole source text, and the masked-token head scores which word follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bertwright.model.bert import Embeddings
from bertwright.model.config import BertConfig
from bertwright.model.heads import MaskedTokenHead
from bertwright.model.init.noise import draw_weights
from bertwright.model.layers.activations import ACTIVATIONS
from bertwright.model.layers.attention import Attention
from bertwright.model.layers.attention_mask import MASK_VALUE, AttentionMask
from bertwright.model.layers.dropout import Dropout
from bertwright.model.layers.linear import Linear


@dataclass(frozen=True)
class EncoderStates:
    """What the decoder attends to of N source texts: computed once a text, whatever is written about it.

    keys, values  for each block [N, A, S, H/A]
    bias          [N, 1, 1, S] float32: 0 where a token stands, MASK_VALUE for padding
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    bias: Tensor

    def take(self, rows: Tensor) -> EncoderStates:
        """Return the states of the texts at `rows` [M]."""
        return EncoderStates(
            tuple(keys[rows] for keys in self.keys), tuple(values[rows] for values in self.values), self.bias[rows]
        )


@dataclass
class KVCache:
    """Keys and values [R, A, t, H/A] of the t tokens already written in each of R rows, in one block."""

    keys: Tensor
    values: Tensor

    def add(self, keys: Tensor, values: Tensor) -> None:
        """Append those of the next token, [R, A, 1, H/A]."""
        self.keys = torch.cat([self.keys, keys], dim=2)
        self.values = torch.cat([self.values, values], dim=2)

    def take(self, rows: Tensor) -> None:
        """Go on with the rows at `rows` [M]: those still open, or those a beam goes on from."""
        self.keys, self.values = self.keys[rows], self.values[rows]


class DecoderBlock(nn.Module):
    """A block of BERT with attention to the source text between its two halves."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config, bias=True)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.cross = Attention(config, bias=True)
        self.cross_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.inner = Linear(config.hidden_size, config.intermediate_size)
        self.outer = Linear(config.intermediate_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor, around: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Return hidden states [N, T, H] from those before, and from `around` [N, T, H], what self-attention found.

        Keys, values and bias are those of `EncoderStates`.
        """
        hidden = self.attention_norm(hidden + self.dropout(around))
        hidden = self.cross_norm(hidden + self.dropout(self.cross.cross_attend(keys, values, hidden, bias)))
        expanded = self.activation(self.inner(hidden))
        normalised: Tensor = self.norm(hidden + self.dropout(self.outer(expanded)))
        return normalised


class Decoder(nn.Module):
    """Embeddings, blocks and masked-token head of BERT, reading from left to right."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.layers))
        self.mlm_head = MaskedTokenHead(config)
        draw_weights(self, std=config.initializer_range)

    def encoder_states(self, hidden: Tensor, attention_mask: Tensor) -> EncoderStates:
        """Return what the blocks attend to of source texts, from hidden states [N, S, H] and their mask [N, S]."""
        pairs = [block.cross.keys_and_values(hidden) for block in self._blocks()]
        bias = torch.where(attention_mask, 0.0, MASK_VALUE)[:, None, None, :]
        return EncoderStates(tuple(keys for keys, _ in pairs), tuple(values for _, values in pairs), bias)

    def forward(self, ids: Tensor, memory: EncoderStates) -> Tensor:
        """Return hidden states [N, T, H] of texts written so far, ids [N, T], padding at their ends."""
        length = ids.shape[1]
        ahead = torch.full((length, length), MASK_VALUE, device=ids.device).triu(1)
        mask = AttentionMask(ahead[None, None])
        hidden = self.embeddings(ids, torch.zeros_like(ids))
        for block, keys, values in zip(self._blocks(), memory.keys, memory.values, strict=True):
            hidden = block(hidden, block.attention(hidden, mask), keys, values, memory.bias)
        last: Tensor = hidden
        return last

    def next_logits(self, ids: Tensor, position: int, cache: list[KVCache], memory: EncoderStates) -> Tensor:
        """Return logits [N, K, V] of what follows `ids` [N, K], which stand at `position` in K texts about each source.

        `cache` holds what was written before, a row for each of the N x K texts, and is extended; pass an empty list at
        the beginning. All K texts about a source attend to the same states of it.
        """
        sources, texts = ids.shape
        flat = ids.reshape(-1, 1)
        hidden = self.embeddings(flat, torch.zeros_like(flat), first=position).view(sources, texts, -1)
        nothing_masked = torch.zeros(1, 1, 1, 1, device=ids.device)
        for index, block in enumerate(self._blocks()):
            alone = hidden.view(sources * texts, 1, -1)
            keys, values = block.attention.keys_and_values(alone)
            if len(cache) == index:
                cache.append(KVCache(keys, values))
            else:
                cache[index].add(keys, values)
            around = block.attention.cross_attend(cache[index].keys, cache[index].values, alone, nothing_masked)
            around = around.view(sources, texts, -1)
            hidden = block(hidden, around, memory.keys[index], memory.values[index], memory.bias)
        return self.logits(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits [..., V] of the vocabulary from hidden states [..., H]."""
        scores: Tensor = self.mlm_head(hidden, self.embeddings.words.weight)
        return scores

    def _blocks(self) -> list[DecoderBlock]:
        return [block for block in self.blocks if isinstance(block, DecoderBlock)]
