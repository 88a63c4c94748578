"""The loss that keeps no scores: equal to the plain one, gradients and accuracy too, and what it keeps is small."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from bertwright.model.build import build_encoder, named_size
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.mlm import token_loss
from bertwright.objectives.word_loss import leaves_scores
from bertwright.types import Batch, Loss, MaskedBatch, Scores, UnscoredWords

ROWS, SLOTS, WIDTH, VOCAB = 37, 5, 24, 301


def example_of(**over: Any) -> MaskedBatch:
    """Return a batch whose rows have 0 to 5 slots in use."""
    torch.manual_seed(3)
    weights = (torch.arange(SLOTS) < torch.randint(0, SLOTS + 1, (ROWS, 1))).float()
    none = torch.zeros((ROWS, 8), dtype=torch.long)
    labels = torch.randint(VOCAB, (ROWS, SLOTS)) * weights.long()
    return MaskedBatch(none, none, none == 0, none[:, :SLOTS], labels, weights, **over)


def inputs() -> list[torch.Tensor]:
    torch.manual_seed(4)
    shapes = ((ROWS, SLOTS, WIDTH), (VOCAB, WIDTH), (VOCAB,))
    return [torch.randn(shape).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("asked", [False, True])
def test_loss_accuracy_and_gradients_are_those_of_the_plain_loss(asked: bool) -> None:
    """In a batch that is part of a micro-batch, so that it is divided by other counts, and of a loss that is scaled."""
    example, (vectors, words, bias) = example_of(normalizer=torch.tensor([77.0, 50.0, 900.0])), inputs()
    best = (vectors @ words.T + bias).argmax(-1)
    example = replace(example, masked_labels=torch.where(torch.rand(ROWS, SLOTS) < 0.5, best, example.masked_labels))
    chosen = torch.rand(ROWS, SLOTS) < 0.7 if asked else None
    found = []
    for logits in (vectors @ words.T + bias, UnscoredWords(vectors, words, bias)):
        loss = token_loss(logits, example, part="mlm", asked=chosen)
        gradients = torch.autograd.grad(3.0 * loss.total, (vectors, words, bias))
        sums = loss.parts["mlm"]
        found.append([loss.total, sums.sum, sums.count, sums.correct, *gradients])
    assert found[0][3] > 10
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-5)


def test_ties_share_the_point() -> None:
    """All scores alike, each word is right to 1 / V."""
    example, (vectors, words, bias) = example_of(), inputs()
    loss = token_loss(UnscoredWords(vectors * 0, words, bias * 0), example, part="mlm")
    torch.testing.assert_close(loss.parts["mlm"].correct, example.masked_weights.sum() / VOCAB)


def test_in_bfloat16_it_is_as_near_to_float32_as_the_plain_loss() -> None:
    example, (vectors, words, bias) = example_of(), inputs()
    wanted = torch.autograd.grad(token_loss(vectors @ words.T + bias, example, part="mlm").total, (vectors, words))
    half = vectors.bfloat16()
    plain = half @ words.bfloat16().T + bias.bfloat16()
    off = []
    for logits in (plain, UnscoredWords(half, words, bias)):
        found = torch.autograd.grad(token_loss(logits, example, part="mlm").total, (vectors, words), retain_graph=True)
        off.append([float((one - other).norm() / other.norm()) for one, other in zip(found, wanted, strict=True)])
    assert all(ours <= 1.1 * theirs < 0.03 for theirs, ours in zip(*off, strict=True))


def test_no_scores_are_kept() -> None:
    """Until the backward pass: the plain loss keeps numbers for every slot and word, this one gradients alone."""
    example, (vectors, words, bias) = example_of(), inputs()
    kept: dict[str, int] = {}
    for name in ("plain", "fused"):
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            logits = vectors @ words.T + bias if name == "plain" else UnscoredWords(vectors, words, bias)
            token_loss(logits, example, part="mlm")
        kept[name] = max(sizes)
    assert kept["plain"] == ROWS * SLOTS * VOCAB
    assert kept["fused"] == max(VOCAB * WIDTH, ROWS * SLOTS * WIDTH)


def batch_of(rows: int = 6, length: int = 16) -> Batch:
    torch.manual_seed(1)
    here = torch.arange(length) < torch.randint(9, length + 1, (rows, 1))
    ids = torch.randint(5, VOCAB, here.shape) * here
    return Batch(ids, ids * 0, here, here, here, torch.zeros(rows, dtype=torch.long))


@pytest.mark.parametrize("over", [{}, {"architecture": "modern"}, {"architecture": "electra", "embedding_size": 16}])
def test_a_model_may_leave_its_scores_to_the_loss(over: dict[str, Any]) -> None:
    """While it trains: the gradient of every weight is that of the model that scores; evaluated, it scores."""
    shape = {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "layers": 2, "dropout": 0.0, **over}
    model = build_encoder(named_size("tiny", vocab_size=VOCAB, attention_dropout=0.0, **shape)).train()
    objective = build_objective(ObjectiveConfig(next_sentence=model.has_nsp_head), vocab_size=VOCAB, mask_id=4)
    example = objective.corrupt(batch_of(), torch.Generator().manual_seed(2))

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        loss: Loss = objective.loss(model(example), example)
        loss.total.backward()
        return [loss.total.detach(), *(one.grad for one in model.parameters() if one.grad is not None)]

    expected = gradients()
    model.leaves_scores = True
    scores: Scores = model(example)
    assert scores.mlm.shape[-1] == 0
    for one, other in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        assert model(example).mlm.shape[-1] == VOCAB
    assert model.eval()(example).mlm.shape[-1] == VOCAB


def test_compiled_code_scores_as_usual() -> None:
    """It keeps nothing in float32 anyway."""
    shape: dict[str, Any] = {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "layers": 1, "dropout": 0.0}
    model = build_encoder(named_size("tiny", vocab_size=VOCAB, attention_dropout=0.0, **shape)).train()
    objective = build_objective(ObjectiveConfig(next_sentence=False), vocab_size=VOCAB, mask_id=4)
    example = objective.corrupt(replace(batch_of(), next_label=None), torch.Generator().manual_seed(2))
    model.leaves_scores, counter = True, CompileCounter()
    assert model(example).mlm.shape[-1] == 0
    assert torch.compile(model, backend=counter, fullgraph=True, dynamic=False)(example).mlm.shape[-1] == VOCAB
    assert counter.frame_count == 1


def test_scores_are_left_where_they_take_much_memory_of_a_gpu() -> None:
    assert leaves_scores(torch.device("cuda"), slots=256 * 77, vocab_size=30522)
    assert not leaves_scores(torch.device("cuda"), slots=32 * 20, vocab_size=30522)
    assert not leaves_scores(torch.device("cpu"), slots=256 * 77, vocab_size=30522)
