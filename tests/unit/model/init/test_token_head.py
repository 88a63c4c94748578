"""A head that an encoder comes without: it passes hidden states through, and begins with how frequent tokens are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from bertwright.model.build import build_encoder, named_size
from bertwright.model.init.token_head import start_token_head
from bertwright.types import MaskedBatch

V = 50


def rows(generator: torch.Generator, *, shares: torch.Tensor) -> MaskedBatch:
    """Return 64 rows of 16 tokens drawn by their shares, four of each asked about, and masked."""
    ids = torch.multinomial(shares, 64 * 16, replacement=True, generator=generator).view(64, 16)
    positions = torch.tensor([2, 5, 9, 12]).expand(64, 4)
    return MaskedBatch(
        input_ids=ids.scatter(1, positions, 4),
        token_type_ids=torch.zeros_like(ids),
        attention_mask=torch.ones_like(ids, dtype=torch.bool),
        masked_positions=positions,
        masked_labels=ids.gather(1, positions),
        masked_weights=torch.ones(64, 4),
    )


@pytest.mark.parametrize(
    ("architecture", "over"), [("bert", {}), ("modern", {}), ("roberta", {}), ("electra", {"embedding_size": 64})]
)
@torch.no_grad()
def test_the_head_is_near_the_identity_and_as_good_as_the_unigrams(architecture: str, over: dict[str, int]) -> None:
    torch.manual_seed(0)
    shape = named_size("tiny", vocab_size=V, architecture=architecture, max_positions=32, **over)
    model = build_encoder(shape).eval()
    counts = np.zeros(V)
    counts[5:] = np.arange(1, V - 4) ** 2
    shares = torch.from_numpy(counts / counts.sum())
    example = rows(torch.Generator().manual_seed(1), shares=shares.float())
    start_token_head(model, counts, [example])
    narrow = hidden = torch.randn(200, model.config.embedding_width)
    if "embedding_size" in over:
        hidden = functional.linear(narrow, model.embeddings.get_parameter("project.weight"))
    passed = functional.normalize(model.mlm_head.transform(hidden), dim=-1)
    straight = functional.normalize(functional.layer_norm(narrow, narrow.shape[-1:]), dim=-1)
    assert float((passed * straight).sum(-1).min()) > 0.98  # cosine: GELU is a straight line there but for little
    scores = model(example).mlm.flatten(0, 1)
    loss = float(functional.cross_entropy(scores, example.masked_labels.flatten()))
    unigram = float(-shares[example.masked_labels.flatten()].log().mean())
    assert loss < unigram + 0.15
    assert torch.equal(model.mlm_head.bias.argsort()[-5:], torch.arange(V - 5, V))
