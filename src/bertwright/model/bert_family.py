"""What is BERT with other embeddings, other heads or fewer parts: RoBERTa and its kin, ELECTRA, DistilBERT.

Their blocks are BERT's, so all that is made for these (compiling, packed weights, ONNX) holds for them.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import Activation, BertConfig, ModelConfig
from bertwright.model.heads import ReplacedTokenHead
from bertwright.types import MaskedBatch, Scores


class RobertaConfig(BertConfig):
    """The shape of a RoBERTa (Liu et al. 2019): positions are counted from after the id of the padding token.

    Its tokenizers give every token the first of its token types, which is added all the same.
    """

    reads_token_types: ClassVar[bool] = False

    type_vocab_size: int = Field(default=1, ge=1)
    """Rows of the token-type embeddings, of which the first is used."""

    @property
    def first_position(self) -> int:
        """The row after that of padding."""
        return self.pad_token_id + 1

    @property
    def head_act(self) -> Activation:
        """GELU, whatever the inner layers have."""
        return "gelu"

    @property
    def row_weights(self) -> int:
        """None: it has no next-sentence head."""
        return 0


class XlmRobertaConfig(RobertaConfig):
    """The shape of an XLM-RoBERTa (Conneau et al. 2020)."""


class CamembertConfig(RobertaConfig):
    """The shape of a CamemBERT (Martin et al. 2020)."""


class ElectraConfig(BertConfig):
    """The shape of an ELECTRA (Clark et al. 2020), whose embeddings may be narrower than its hidden states."""

    pooler_act: ClassVar[Activation] = "gelu"

    embedding_size: int | None = Field(default=None, ge=1)
    """Width of the embeddings; that of the hidden states where not given."""
    discriminator: bool = False
    """Whether it predicts which tokens were replaced, and is written as the class that does."""

    @property
    def embedding_width(self) -> int:
        """That of the embeddings, which a matrix makes as wide as the hidden states."""
        return self.embedding_size or self.hidden_size

    @property
    def head_act(self) -> Activation:
        """GELU, whatever the inner layers have."""
        return "gelu"

    @property
    def row_weights(self) -> int:
        """None: it has no next-sentence head."""
        return 0


class DistilBertConfig(BertConfig):
    """The shape of a DistilBERT (Sanh et al. 2019), which has no token types."""

    reads_token_types: ClassVar[bool] = False
    pooler_act: ClassVar[Activation] = "relu"

    type_vocab_size: int = Field(default=0, ge=0, le=0)
    """None."""

    @property
    def row_weights(self) -> int:
        """None: it has no next-sentence head."""
        return 0


class Roberta(BertForPreTraining):
    """RoBERTa with its masked-token head; the pooler of transformers' RobertaModel is kept, and not trained."""

    config_type: ClassVar[type[ModelConfig]] = RobertaConfig
    has_nsp_head = False


class XlmRoberta(Roberta):
    """XLM-RoBERTa: RoBERTa over the words of a hundred languages."""

    config_type: ClassVar[type[ModelConfig]] = XlmRobertaConfig


class Camembert(Roberta):
    """CamemBERT: RoBERTa over French words."""

    config_type: ClassVar[type[ModelConfig]] = CamembertConfig


class Electra(BertForPreTraining):
    """ELECTRA, generator or discriminator: with a masked-token head, or also one that finds replaced tokens."""

    config_type: ClassVar[type[ModelConfig]] = ElectraConfig
    config: ElectraConfig
    has_nsp_head = False
    bare_has_pooler: ClassVar[bool] = False

    def _add_heads(self) -> None:
        """Make the head of a discriminator."""
        if self.config.discriminator:
            self.rtd_head = ReplacedTokenHead(self.config)

    def forward(self, batch: MaskedBatch, head: nn.Module | None = None) -> Scores:
        """Return the scores of a batch: of a discriminator those of all its tokens, else those of `Encoder.forward`."""
        if not self.config.discriminator:
            return super().forward(batch, head)
        rows = batch.input_ids, batch.token_type_ids, batch.attention_mask
        hidden = self.encode(*rows, documents=batch.documents, layout=batch.layout)
        return Scores(mlm=hidden[:, :0], nsp=None, replaced=self.rtd_logits(hidden))

    def rtd_logits(self, hidden: Tensor) -> Tensor:
        """Return logits [B, S] from hidden states [B, S, H]: above 0 where a token was more likely replaced."""
        logits: Tensor = self.rtd_head(hidden)
        return logits


class DistilBert(BertForPreTraining):
    """DistilBERT with its masked-token head; tasks about rows have a dense layer and ReLU before their head."""

    config_type: ClassVar[type[ModelConfig]] = DistilBertConfig
    has_nsp_head = False
    bare_has_pooler: ClassVar[bool] = False
