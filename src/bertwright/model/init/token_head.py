"""Turns an encoder without a masked-token head into one whose head passes hidden states through to the vocabulary.

So an encoder that comes without one, such as a sentence encoder, is trained on from where it stands: the head is near
the identity, its bias is how frequent each token is (Meister et al., 2023, "A Natural Bias for Language Generation
Models"), and its gain is measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bertwright.model.encoder import Encoder
from bertwright.model.init.from_corpus import LINEAR, log_frequencies, sharpen
from bertwright.types import MaskedBatch

SMALL = 0.1
"""Where a head has no biases: the factor of the identity. GELU is nearly a straight line around zero; the LayerNorm
behind it takes the factor out again."""


@torch.no_grad()
def start_token_head(model: Encoder, counts: np.ndarray, examples: Sequence[MaskedBatch]) -> None:
    """Put the weights of the masked-token head of `model` in place; draws nothing.

    `counts` [V] are how often each token stands in the text, and `examples` masked rows of it, on which the gain of the
    head is measured (see `sharpen`). Rows of the vocabulary past V count as tokens that never stand there.
    """
    head, training = model.mlm_head, model.training
    model.eval()  # what is measured must not depend on dropout
    through = _identity(model)
    if head.dense.bias is None:
        head.dense.weight.copy_(SMALL * through)
    else:
        head.dense.weight.copy_(through)
        head.dense.bias.fill_(LINEAR)
        head.norm.bias.zero_()
    every = np.zeros(len(head.bias))
    every[: len(counts)] = counts[: len(every)]
    head.bias.copy_(log_frequencies(every))
    sharpen(model, examples, blocks=model.config.layers)
    model.train(training)


def _identity(model: Encoder) -> Tensor:
    """Return the identity [E, H]; where embeddings are narrower, what undoes the matrix that made them as wide."""
    weight = model.mlm_head.dense.weight
    if weight.shape[0] == weight.shape[1]:
        return torch.eye(len(weight), device=weight.device)
    widened = model.embeddings.get_parameter("project.weight")
    inverse: Tensor = torch.linalg.pinv(widened)
    return inverse
