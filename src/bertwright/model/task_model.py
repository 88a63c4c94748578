"""Turns a pre-trained encoder into the model of a task: a linear layer over rows or over tokens.

They are the classes Hugging Face calls ForSequenceClassification, ForMultipleChoice, ForTokenClassification and
ForQuestionAnswering, weight for weight.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from bertwright.model.crf import Crf
from bertwright.model.encoder import SEQUENCE_HEADS, Encoder, HeadType
from bertwright.model.init.noise import draw_weights
from bertwright.model.layers.dropout import Dropout
from bertwright.model.layers.linear import Linear
from bertwright.model.sentence_encoder import SentenceEncoder, mean_of
from bertwright.types import LabelledBatch

Problem = Literal["regression", "single_label_classification", "multi_label_classification"]
"""What Hugging Face calls the kind of loss a head is trained on."""


class FineTuned(nn.Module):
    """An encoder with the head of a task (Devlin 2018, section 4.1 for rows and 5.3 for tokens).

    >>> # needs a model
    >>> model = FineTuned(load_model(Path("runs/en/model")), head_type="row", outputs=2, dropout=0.1)  # doctest: +SKIP
    >>> logits = model(batch)  # [B, 1, 2]  # doctest: +SKIP
    """

    def __init__(
        self, encoder: Encoder, *, head_type: HeadType, outputs: int, dropout: float, crf: Crf | None = None
    ) -> None:
        """Take over `encoder`, without its pre-training heads; the new head is drawn from torch's default generator.

        Over rows its deviation is that of the encoder's matrices, 0.02. Over tokens it is 1 / sqrt(H), which makes
        logits of about 1 from normalised states of any width: from 0.02 MiniLM learns so slowly that F1 on the test of
        WNUT-17 is 0.34 after 3 epochs, not 0.42, and on SQuAD (2,000 questions) 0.31, not 0.43.
        A `crf` goes along with the model: the task decides by it (see `Task.with_crf`), not the forward pass.
        """
        super().__init__()
        encoder.drop_heads(head_type)
        self.encoder, self.head_type = encoder, head_type
        self.dropout = Dropout(dropout)
        self.classifier = Linear(encoder.config.hidden_size, outputs)
        std = encoder.config.initializer_range if head_type in SEQUENCE_HEADS else encoder.config.hidden_size**-0.5
        draw_weights(self.classifier, std=std)
        self.crf = crf

    def forward(self, batch: LabelledBatch) -> Tensor:
        """Return logits [B, M, outputs] at the positions `asked`, or at all; the last block computes no others.

        Where rows are averaged it computes all, and M is 1.
        """
        logits: Tensor = self.classifier(self.dropout(self.features(batch)))
        return logits

    def features(self, batch: LabelledBatch) -> Tensor:
        """Return what the head reads, [B, M, H], before dropout."""
        mask, at = batch.attention_mask, None if self.averages else batch.asked
        hidden = self.encoder.encode(batch.input_ids, batch.token_type_ids, mask, at)
        if self.averages:
            hidden = mean_of(hidden.float(), mask.unsqueeze(-1)).unsqueeze(1).to(hidden.dtype)
        return self.encoder.head_inputs(hidden, self.head_type)

    @property
    def averages(self) -> bool:
        """Whether the head reads the mean of a row's tokens, padding not counted."""
        return self.head_type in SEQUENCE_HEADS and self.encoder.config.averages_rows


def depths(model: FineTuned | SentenceEncoder) -> dict[str, int]:
    """Return how deep each parameter lies: 0 for embeddings, n for block n (from 1), and one more for what follows."""
    top = model.encoder.config.layers + 1
    found: dict[str, int] = {}
    for name, _ in model.named_parameters():
        first, *rest = name.removeprefix("encoder.").split(".")
        found[name] = 0 if first == "embeddings" else int(rest[0]) + 1 if first == "blocks" else top
    return found


def freeze(model: FineTuned | SentenceEncoder, blocks: int) -> None:
    """Keep the embeddings and the first `blocks` blocks as they are from now on; 0 freezes nothing."""
    if blocks:
        deep = depths(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(deep[name] > blocks)
