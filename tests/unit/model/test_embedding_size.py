"""Small embeddings answer as large ones did, and those that are small stay."""

from __future__ import annotations

import torch

from bertwright.model.bert import SMALL_RMS, BertForPreTraining, shrink_embeddings
from bertwright.model.config import BertConfig


def model_of_words(rms: float) -> BertForPreTraining:
    """Return a small model whose words have a root mean square of `rms`, and whose norms are not as new."""
    torch.manual_seed(0)
    model = BertForPreTraining(
        BertConfig(vocab_size=50, hidden_size=32, layers=2, heads=2, intermediate_size=64, max_positions=16)
    )
    with torch.no_grad():
        for table in (model.embeddings.words, model.embeddings.positions, model.embeddings.types):
            table.weight.normal_(std=rms)
        model.mlm_head.norm.weight.normal_(1, 0.2)
        model.mlm_head.norm.bias.normal_()
    return model.eval()


def answers(model: BertForPreTraining) -> torch.Tensor:
    """Return scores of the vocabulary and of next sentences, one after the other."""
    ids = torch.randint(50, (3, 12), generator=torch.Generator().manual_seed(1))
    types, mask = (ids > 25).long(), torch.ones_like(ids, dtype=torch.bool)
    hidden = model.encode(ids, types, mask)
    return torch.cat([model.mlm_logits(hidden).flatten(), model.nsp_logits(hidden).flatten()])


@torch.no_grad()
def test_answers_stay_and_words_get_small() -> None:
    """Whatever size words have; a power of two away from it."""
    for rms in (0.1, 0.2, 1.0):
        model = model_of_words(rms)
        before = answers(model)
        shrink_embeddings(model)
        assert torch.allclose(answers(model), before, rtol=1e-6, atol=1e-6)
        assert SMALL_RMS / 1.5 < float(model.embeddings.words.weight.square().mean().sqrt()) < SMALL_RMS * 1.5


@torch.no_grad()
def test_small_words_stay() -> None:
    """As they are in a BERT that was drawn, and so does the head."""
    model = model_of_words(0.02)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shrink_embeddings(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
