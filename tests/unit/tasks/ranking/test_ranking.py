"""Queries and passages: what is read, split and refused, what the figures are, and how passages are ranked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bertwright.errors import ConfigError, CorpusError, ModelError, UsageError
from bertwright.tasks.base import TrainFile
from bertwright.tasks.head import HeadConfig
from bertwright.tasks.ranking.metrics import rank_passages
from bertwright.tasks.ranking.reader import Passages, passages_of_questions
from bertwright.tasks.ranking.task import Rank


def table(path: Path, rows: list[tuple[str, str, str]], header: str = "query\tpassage\tlabel") -> Path:
    path.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return path


def grades(queries: int) -> list[tuple[str, str, str]]:
    return [(f"query {q}", f"passage {q} {p}", str(max(0, 2 - p))) for q in range(queries) for p in range(5)]


def test_a_query_stays_on_one_side(tmp_path: Path) -> None:
    task, splits = Rank.from_train_file(TrainFile(table(tmp_path / "train.tsv", grades(40)), dev_fraction=0.2))
    assert (task.top, task.pairs, len(splits["dev"])) == (2.0, True, 40)
    assert not set(splits["train"].first) & set(splits["dev"].first)
    again = Rank.from_labels(task.labels, task.extra_config)
    assert again.top == 2.0
    with pytest.raises(ModelError, match="top_grade"):
        Rank.from_labels(task.labels, {"top_grade": 0})


@pytest.mark.parametrize(
    ("rows", "header", "named"),
    [
        ([("q", "a", "-2"), ("q", "b", "1")], "query\tpassage\tlabel", "row 1"),
        ([("q", "a", "yes"), ("q", "b", "1")], "query\tpassage\tlabel", "yes"),
        ([("q", "a", "1"), ("q", "b", "1")], "query\tpassage\tlabel", "relevance 1"),
        ([("q", "a", "0"), ("q", "b", "1")], "text\tid\tlabel", "pair-column"),
    ],
)
def test_what_is_no_ranking_is_refused(
    tmp_path: Path, rows: list[tuple[str, str, str]], header: str, named: str
) -> None:
    with pytest.raises(CorpusError, match=named):
        Rank.from_train_file(TrainFile(table(tmp_path / "train.tsv", rows, header)))
    with pytest.raises(ConfigError, match="crf"):
        Rank.from_train_file(TrainFile(tmp_path / "train.tsv", head=HeadConfig(crf=True)))


def test_figures_are_means_over_queries_that_can_be_answered() -> None:
    queries = np.array([0, 1, 0, 1, 0, 2, 3, 3])
    relevant = np.array([1, 0, 0, 1, 0, 1, 0, 0], dtype=np.float32)
    scores = np.array([0.1, 0.9, 0.8, 0.2, 0.3, 1.0, 0.5, 0.4])
    ranks = rank_passages(scores, relevant, queries)
    assert (ranks.queries.tolist(), ranks.rank.tolist(), ranks.left_out) == ([0, 1], [3, 2], 2)
    figures = ranks.figures()
    assert figures["mrr_at_10"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert figures["ndcg_at_10"] == pytest.approx((1 / np.log2(4) + 1 / np.log2(3)) / 2)


def test_queries_whose_passages_are_all_alike_say_nothing() -> None:
    queries = np.array([0, 0, 1, 1, 2, 2, 3])
    grades = np.array([1, 1, 0, 0, 2, 1, 1], dtype=np.float32)
    ranks = rank_passages(np.array([0.2, 0.1, 0.2, 0.1, 0.1, 0.2, 0.9]), grades, queries)
    assert (ranks.queries.tolist(), ranks.left_out) == ([2], 3)
    assert 0.6 < ranks.ndcg[0] < 0.9


def test_equal_scores_help_nobody() -> None:
    ranks = rank_passages(np.zeros(4), np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(4, dtype=np.int64))
    assert ranks.rank.tolist() == [4]
    assert 0 < ranks.ndcg[0] < 0.7
    late = rank_passages(-np.arange(12.0), np.eye(12)[11], np.zeros(12, dtype=np.int64))
    assert late.figures() == {"ndcg_at_10": 0.0, "mrr_at_10": 0.0}


def test_passages_are_ranked() -> None:
    task = Rank.from_labels(["rank"])
    asked = passages_of_questions([("one", "a", "b", "c"), ("two", "d")])
    found = task.predictions(np.array([[0.0], [2.0], [1.0], [-1.0]], dtype=np.float32), asked)
    assert [one["place"] for one in found[0]["passages"]] == [1, 2, 0]
    assert found[0]["passages"][0] == {"place": 1, "text": "b", "score": pytest.approx(1 / (1 + np.exp(-2.0)))}
    assert found[1]["passages"][0]["text"] == "d"
    with pytest.raises(UsageError, match="query"):
        passages_of_questions([("alone",)])


def test_grades_are_fractions_of_the_highest() -> None:
    from bertwright.types import LabelledBatch

    ids = torch.ones(3, 4, dtype=torch.int64)
    targets, logits = torch.tensor([[0.0], [3.0], [1.5]]), torch.tensor([0.5, -1.0, 2.0])
    task = Rank.from_labels(["rank"], {"top_grade": 3.0})
    loss = task.loss(logits.view(3, 1, 1), LabelledBatch(ids, ids, ids > 0, ids[:, :1], targets))
    wanted = torch.nn.BCEWithLogitsLoss()(logits, torch.tensor([0.0, 1.0, 0.5]))
    torch.testing.assert_close(loss.total, wanted)
    examples = Passages(Path("f"), ["q"] * 3, ["a", "b", "c"], targets[:, 0].numpy())
    found = task.evaluate(logits.view(3, 1).numpy(), examples, mistakes=5)
    assert found.figures["loss"] == pytest.approx(float(wanted))
    assert found.mistakes == []
