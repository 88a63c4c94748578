"""The contrastive loss against its definition, what is no negative, and scores against the definition of the cosine."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bertwright.tasks.embedding.reader import gathered
from bertwright.tasks.embedding.task import Embed, contrast_loss, evaluate_vectors
from bertwright.types import SentenceBatch


def unit_vectors(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return functional.normalize(torch.randn(*shape), dim=-1)


def by_hand(vectors: Tensor, *, temperature: float, left_out: set[tuple[int, int]]) -> list[float]:
    """Losses of each first text, candidates in the order of the definition, some pairs (first, candidate) left out."""
    first, others = vectors[0], vectors[1:].flatten(0, 1)
    losses = []
    for place, one in enumerate(first):
        kept = [index for index in range(len(others)) if (place, index) not in left_out]
        scores = {index: float(one @ others[index]) / temperature for index in kept}
        losses.append(math.log(sum(map(math.exp, scores.values()))) - scores[place])
    return losses


@pytest.mark.parametrize("columns", [2, 3])
def test_each_first_text_finds_its_second(columns: int) -> None:
    vectors, texts = unit_vectors(columns, 5, 8), torch.arange(columns * 5).view(columns, 5)
    found = contrast_loss(vectors, texts, temperature=0.05, symmetric=False)
    expected = by_hand(vectors, temperature=0.05, left_out=set())
    assert float(found.total) == pytest.approx(sum(expected) / 5, rel=1e-5)
    assert float(found.parts["embed"].sum) == pytest.approx(sum(expected), rel=1e-5)
    assert int(found.parts["embed"].count) == 5


def test_equal_texts_are_no_negatives_of_each_other() -> None:
    """0 and 1 have the same second text, 2 and 3 the same first; the second of 4 is the first of 0."""
    texts = torch.tensor([[0, 1, 2, 2, 4], [5, 5, 6, 7, 0], [8, 9, 10, 11, 5]])
    left_out = {(0, 1), (1, 0), (2, 3), (3, 2), (0, 4), (0, 9), (1, 9)}
    vectors = unit_vectors(3, 5, 8)
    found = contrast_loss(vectors, texts, temperature=0.1, symmetric=False)
    expected = by_hand(vectors, temperature=0.1, left_out=left_out)
    assert float(found.total) == pytest.approx(sum(expected) / 5, rel=1e-5)


def test_symmetric_is_the_mean_of_both_directions() -> None:
    vectors = unit_vectors(2, 5, 8)
    texts = torch.tensor([[0, 1, 2, 2, 4], [5, 5, 6, 7, 0]])
    there = contrast_loss(vectors, texts, temperature=0.1, symmetric=False).total
    back = contrast_loss(vectors.flip(0), texts.flip(0), temperature=0.1, symmetric=False).total
    both = contrast_loss(vectors, texts, temperature=0.1, symmetric=True).total
    assert float(both) == pytest.approx(float(there + back) / 2, rel=1e-5)


def test_a_text_alone_finds_itself_and_not_its_copy() -> None:
    vectors = unit_vectors(2, 3, 8)
    texts = torch.tensor([[0, 1, 0], [0, 1, 0]])
    found = contrast_loss(vectors, texts, temperature=0.05, symmetric=False)
    expected = by_hand(vectors, temperature=0.05, left_out={(0, 2), (2, 0)})
    assert float(found.total) == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_scores_are_what_cosines_come_near_to() -> None:
    vectors = torch.randn(8, 6)
    batch = SentenceBatch(
        *(torch.zeros(8, 1) for _ in range(3)), texts=torch.arange(8).view(2, 4), scores=torch.rand(4)
    )
    found = Embed("scores", ("spearman",), temperature=0.05, symmetric=False).loss(vectors, batch)
    expected = (functional.cosine_similarity(vectors[:4], vectors[4:]) - batch.scores).square()
    assert float(found.total) == pytest.approx(float(expected.mean()), rel=1e-5)


def test_judged_by_finding_the_right_text() -> None:
    examples = gathered(Path("f"), [["a", "b", "c"], ["x", "y", "z"]], None)
    place = {text: index for index, text in enumerate(examples.texts)}
    vectors = np.zeros((6, 2), dtype=np.float32)
    for text, angle in {"a": 0, "x": 0.1, "b": 1, "y": 1.1, "c": 0.05, "z": 2}.items():
        vectors[place[text]] = np.cos(angle), np.sin(angle)
    evaluated = evaluate_vectors(vectors, examples, mistakes=5)
    assert evaluated.figures == {"mrr_at_10": pytest.approx((1 + 1 + 1 / 3) / 3), "accuracy": pytest.approx(2 / 3)}
    assert [(one.text, one.label, one.prediction) for one in evaluated.mistakes] == [("c", "z (place 3)", "x")]
    assert evaluated.table is not None
    assert evaluated.table.rows[:2] == [["1", "2", "66.7%"], ["2 to 3", "1", "33.3%"]]


def test_judged_by_scores() -> None:
    examples = gathered(Path("f"), [["a", "b", "c"], ["x", "y", "z"]], np.array([5, 0, 2], dtype=np.float32))
    place = {text: index for index, text in enumerate(examples.texts)}
    vectors = np.zeros((6, 2), dtype=np.float32)
    for text, angle in {"a": 0, "x": 0.1, "b": 0, "y": 1, "c": 0, "z": 3}.items():
        vectors[place[text]] = np.cos(angle), np.sin(angle)
    evaluated = evaluate_vectors(vectors, examples, mistakes=1)
    assert evaluated.figures["spearman"] == pytest.approx(0.5)
    assert evaluated.mistakes[0].text in ("b | y", "c | z")
    assert evaluated.table is not None
    assert [row[0] for row in evaluated.table.rows] == ["0 to 1", "2 to 3", "4 to 5"]
