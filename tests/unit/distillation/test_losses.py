"""The losses of a student equal the formulas of their papers, computed another way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor
from torch.nn import functional

from bertwright.batch_layout import Places
from bertwright.distillation.answers import BY_HEAD, BY_PROBLEM, choice_loss, mean_classes, mean_groups, span_loss
from bertwright.distillation.losses import (
    attention_error,
    class_divergence,
    hidden_error,
    label_divergence,
    relation_divergence,
)
from bertwright.distillation.taught_rows import TaughtBatch
from bertwright.tasks.multiple_choice.task import FIRST
from bertwright.types import UNASKED

T = 3.0


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Return numbers of a normal distribution."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float() * 2


def batch(targets: Tensor, taught: Tensor, mask: Tensor | None = None) -> TaughtBatch:
    """Return a batch with the logits of a teacher."""
    ids = torch.zeros(len(targets), 2 if mask is None else mask.shape[1], dtype=torch.int64)
    mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    return TaughtBatch(ids, ids, mask, None, targets, taught, Places.of(torch.ones(len(targets), 1, dtype=torch.bool)))


def test_divergence_of_classes_is_that_of_torch_times_the_square_of_the_temperature() -> None:
    student, teacher = draw(5, 4), draw(5, 4, seed=1)
    wanted = functional.kl_div(
        functional.log_softmax(student / T, -1), functional.softmax(teacher / T, -1), reduction="batchmean"
    )
    assert torch.allclose(class_divergence(student, teacher, temperature=T).mean(), wanted * T**2, atol=1e-6)


def test_gradient_at_a_high_temperature_is_that_of_matching_logits() -> None:
    """Hinton et al. (2015), equation 4: (z - v) / N where logits have a mean of zero, times T^2 / T^2."""
    student, teacher = (draw(1, 6, seed=seed) for seed in (0, 1))
    student, teacher = (one - one.mean() for one in (student, teacher))
    student.requires_grad_()
    class_divergence(student, teacher, temperature=1e3).sum().backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert torch.allclose(student.grad, (student - teacher).detach() / 6, atol=2e-3)


def test_divergence_of_labels_is_the_cross_entropy_less_that_of_the_teacher_with_itself() -> None:
    student, teacher = draw(3, 4), draw(3, 4, seed=1)
    shares = torch.sigmoid(teacher / T)
    cross = functional.binary_cross_entropy_with_logits(student / T, shares)
    own = functional.binary_cross_entropy_with_logits(teacher / T, shares)
    assert torch.allclose(label_divergence(student, teacher, temperature=T).mean(), (cross - own) * T**2, atol=1e-5)


def relation_loss_of_the_paper(student: np.ndarray, teacher: np.ndarray, lengths: list[int], heads: int) -> float:
    """MiniLMv2, equation 9, row by row, head by head and token by token; the mean over all tokens of all rows."""
    total, tokens = 0.0, 0
    for row, length in enumerate(lengths):
        tokens += length
        for head in range(heads):
            logs = []
            for vectors in (teacher, student):
                units = vectors.shape[-1] // heads
                part = vectors[row, :length, head * units : (head + 1) * units]
                logs.append(log_softmax(part @ part.T / np.sqrt(units), axis=-1))
            total += float((np.exp(logs[0]) * (logs[0] - logs[1])).sum())
    return total / heads / tokens


def test_relations_are_those_of_minilmv2_for_models_of_two_widths() -> None:
    lengths = [5, 3]
    mask = torch.arange(5)[None] < torch.tensor(lengths)[:, None]
    student, teacher = draw(2, 5, 12), draw(2, 5, 18, seed=1)
    found = relation_divergence(student, teacher, mask, heads=6)
    assert float(found) == pytest.approx(relation_loss_of_the_paper(student.numpy(), teacher.numpy(), lengths, 6), 1e-5)
    assert float(relation_divergence(teacher, teacher, mask, heads=6)) == pytest.approx(0, abs=1e-6)


def test_hidden_states_and_attention_are_compared_as_in_tinybert_without_padding() -> None:
    mask = torch.tensor([[True, True, True], [True, True, False]])
    student, teacher = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    used = mask.numpy()
    wanted = np.mean((student.numpy()[used] - teacher.numpy()[used]) ** 2)
    assert float(hidden_error(student, teacher, mask)) == pytest.approx(wanted, 1e-5)
    scores, theirs = draw(2, 2, 3, 3), draw(2, 2, 3, 3, seed=1)
    squares = [
        (scores.numpy()[row, :, :n, :n] - theirs.numpy()[row, :, :n, :n]) ** 2 for row, n in enumerate(mask.sum(1))
    ]
    assert float(attention_error(scores, theirs, mask)) == pytest.approx(np.mean([*squares[0].flat, *squares[1].flat]))


def test_slots_without_a_question_count_nothing() -> None:
    scores, taught = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    targets = torch.tensor([[0, 1, UNASKED], [2, UNASKED, UNASKED]])
    summed, count = BY_PROBLEM["single_label_classification"].loss(scores, batch(targets, taught), T)
    each = class_divergence(scores, taught, temperature=T)
    assert float(summed) == pytest.approx(float(each[0, 0] + each[0, 1] + each[1, 0]), 1e-5)
    assert int(count) == 3


def test_spans_are_distributions_over_the_tokens_of_a_row() -> None:
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    scores, taught = draw(2, 4, 2), draw(2, 4, 2, seed=1)
    summed, count = span_loss(scores, batch(torch.zeros(2, 2, dtype=torch.int64), taught, mask), T)
    wanted = 0.0
    for row, length in enumerate((4, 3)):
        for side in range(2):
            p, q = (log_softmax(one.numpy()[row, :length, side] / T) for one in (taught, scores))
            wanted += float((np.exp(p) * (p - q)).sum()) * T**2 / 2
    assert float(summed) == pytest.approx(wanted, 1e-4)
    assert int(count) == 2


def test_choices_are_distributions_over_those_of_a_question() -> None:
    targets = torch.tensor([[FIRST], [0], [FIRST], [0], [0]])
    scores, taught = draw(5, 1, 1), draw(5, 1, 1, seed=1)
    summed, count = choice_loss(scores, batch(targets, taught), T)
    wanted = 0.0
    for at in (slice(0, 2), slice(2, 5)):
        p, q = (log_softmax(one.numpy()[at].flatten() / T) for one in (taught, scores))
        wanted += float((np.exp(p) * (p - q)).sum()) * T**2
    assert float(summed) == pytest.approx(wanted, 1e-4)
    assert int(count) == 2


def test_several_teachers_are_one_whose_probabilities_are_the_mean_of_theirs() -> None:
    several = [draw(6, 3, seed=seed).numpy() for seed in range(3)]
    one = mean_classes(several, rows_of([1] * 6), T)
    wanted = np.mean([softmax(logits / T, axis=-1) for logits in several], axis=0)
    assert np.allclose(softmax(one / T, axis=-1), wanted, atol=1e-6)
    of_tokens = mean_groups(several, rows_of([2, 4]), T)
    for at in (slice(0, 2), slice(2, 6)):
        wanted = np.mean([softmax(logits[at] / T, axis=0) for logits in several], axis=0)
        assert np.allclose(softmax(of_tokens[at] / T, axis=0), wanted, atol=1e-6)
    labels = BY_PROBLEM["multi_label_classification"].pooled(several, rows_of([1] * 6), T)
    sigmoids = np.mean([1 / (1 + np.exp(-logits / T)) for logits in several], axis=0)
    assert np.allclose(1 / (1 + np.exp(-labels / T)), sigmoids, atol=1e-6)
    assert BY_HEAD["choice"].pooled is mean_groups


def rows_of(lengths: list[int]) -> Any:
    """Return what is looked at of rows of these lengths."""
    return SimpleNamespace(lengths=np.array(lengths), together=None)
