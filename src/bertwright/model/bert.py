"""BERT: embeddings, blocks, and the two heads of its pre-training (Devlin 2018)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from bertwright.model.config import BertConfig, ModelConfig
from bertwright.model.encoder import SEQUENCE_HEADS, Encoder, Part
from bertwright.model.heads import MaskedTokenHead, NextSentenceHead, Pooler
from bertwright.model.init.noise import initialise
from bertwright.model.layers.block import Block
from bertwright.model.layers.embeddings import Embeddings


class BertForPreTraining(Encoder):
    """BERT with its masked-token and next-sentence heads."""

    config_type: ClassVar[type[ModelConfig]] = BertConfig
    config: BertConfig
    has_nsp_head = True

    def __init__(self, config: BertConfig, *, drawn: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.pooler = Pooler(config)
        self.mlm_head = MaskedTokenHead(config)
        self.nsp_head = NextSentenceHead(config)
        if drawn:
            initialise(self, std=config.initializer_range)

    def block(self, number: int) -> Block:
        """Return block `number`, from 0."""
        block = self.blocks[number]
        assert isinstance(block, Block)
        return block

    def encode(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        attention_mask: Tensor,
        at: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Return the last hidden states [B, S, H] of ids, token types and a mask, each [B, S]; [B, M, H] with `at`."""
        sight = self.sight(attention_mask, documents)
        hidden: Tensor = self.embeddings(input_ids, token_type_ids, documents)
        for block in self.blocks[:-1]:
            hidden = block(hidden, sight)
        last: Tensor = self.blocks[-1](hidden, sight, at)
        return last

    def states(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor, *, layer: int) -> Tensor:
        """Return the hidden states [B, S, H] after `layer` blocks."""
        sight = self.sight(attention_mask, None)
        hidden: Tensor = self.embeddings(input_ids, token_type_ids)
        for block in self.blocks[:layer]:
            hidden = block(hidden, sight)
        return hidden

    @property
    def word_embeddings(self) -> nn.Embedding:
        """The embeddings of the vocabulary."""
        return self.embeddings.words

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        """Return logits [..., V] of the vocabulary from hidden states [..., H]."""
        logits: Tensor = self.mlm_head(hidden, self.embeddings.words.weight)
        return logits

    def nsp_logits(self, hidden: Tensor) -> Tensor:
        """Return logits [B, 2] of (B continues A, B comes from another document) from hidden states, [CLS] first."""
        logits: Tensor = self.nsp_head(self.pooler(hidden))
        return logits

    def keep_for(self, part: Part) -> None:
        """Let go of the pre-training heads; tasks about rows go on from the pooler."""
        del self.mlm_head, self.nsp_head
        if part not in SEQUENCE_HEADS:
            del self.pooler

    def keep_states(self) -> None:
        """Let go of both pre-training heads; the pooler stays, which nothing trains: it is part of BertModel."""
        del self.mlm_head, self.nsp_head
        self.pooler.requires_grad_(False)

    def vectors(self, hidden: Tensor, part: Part) -> Tensor:
        """Return the pooled vector of each row [B, 1, H], or the hidden states of tokens as they are."""
        return self.pooler(hidden).unsqueeze(1) if part in SEQUENCE_HEADS else hidden
