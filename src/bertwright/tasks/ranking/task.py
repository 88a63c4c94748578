"""Says how well a passage answers a query, reading both together: a cross-encoder (Nogueira and Cho, 2019).

A row is [CLS] query [SEP] passage [SEP], and has one logit; its sigmoid is the score. What is written is what
sentence-transformers calls a CrossEncoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.corpus.readers.table import Table
from bertwright.errors import CorpusError, ModelError
from bertwright.log import ResultTable, note
from bertwright.tasks.base import TrainFile
from bertwright.tasks.bootstrap import Resampled, means
from bertwright.tasks.classification.reader import Texts, texts_of
from bertwright.tasks.classification.whole_texts import WholeTexts
from bertwright.tasks.columns import Columns, ColumnsConfig
from bertwright.tasks.eval_result import EvalResult, Mistake
from bertwright.tasks.examples import split_dev
from bertwright.tasks.metrics import sigmoid
from bertwright.tasks.ranking.metrics import QueryRanks, rank_passages
from bertwright.tasks.ranking.reader import RELEVANCE, Passages, grades_of, open_passages, passages_of_questions
from bertwright.types import LabelledBatch, Loss, PartSums

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertwright.model.task_model import Problem

TOP = "top_grade"
"""Under this name a folder keeps the highest grade of its training file."""


@dataclass(frozen=True, eq=False)
class Rank(WholeTexts):
    """One logit a passage, trained on the binary cross-entropy with its grade as a fraction of the highest.

    top     the highest grade
    middle  the mean grade of the examples that are trained on, as such a fraction
    """

    name: ClassVar[str] = "rank"
    asks: ClassVar[str | None] = "ranking"
    metric: ClassVar[str] = "ndcg_at_10"
    metrics: ClassVar[tuple[str, ...]] = ("ndcg_at_10", "mrr_at_10", "loss")
    problem: ClassVar[Problem] = "multi_label_classification"
    number_type: ClassVar[type[np.generic]] = np.float32
    target_names: ClassVar[tuple[str, ...]] = RELEVANCE
    top: float = 1.0
    middle: float = 0.5

    @classmethod
    def from_train_file(cls, file: TrainFile) -> tuple[Self, dict[str, Texts]]:
        """Return the task of a training table."""
        file.head.refuse("multi_label", "class_weights", "crf", "positive", "windows", task=cls.name)
        table, found = open_passages(file.path, file.columns)
        queries, passages, written = texts_of(table, found)
        grades = grades_of(file.path, written, column=found.target)
        if np.ptp(grades) == 0:
            raise CorpusError(
                f"every row of {file.path} has the relevance {written[0]}; give passages that answer their query, and "
                "others that do not"
            )
        examples = Passages(file.path, queries, passages, grades)
        per_query = np.bincount(examples.query_numbers())
        note(f"{file.path}: {len(per_query):,} queries, {per_query.min():,} to {per_query.max():,} passages each")
        splits = split_dev(examples, file.dev_fraction)
        top = float(grades.max())
        middle = float(splits["train"].targets.mean()) / top
        return cls((cls.name,), found, True, top=top, middle=middle), dict(splits)

    @classmethod
    def from_labels(cls, labels: Sequence[str], extra_config: Mapping[str, Any] | None = None) -> Self:
        """Return the task of a trained model; raises ModelError where the highest grade that it keeps is none."""
        top = (extra_config or {}).get(TOP, 1.0)
        if not isinstance(top, int | float) or not 0 < top < np.inf:
            raise ModelError(f"{TOP} in the config.json of this model should be above 0, not {str(top)[:20]!r}; fix it")
        return cls(tuple(labels), pairs=True, top=float(top))

    @property
    def extra_config(self) -> dict[str, Any]:
        """What a folder keeps: that texts stand in pairs, and the highest grade."""
        return super().extra_config | {TOP: self.top}

    def open(self, path: Path, columns: ColumnsConfig) -> tuple[Table, Columns]:
        """Return a table and its columns."""
        return open_passages(path, columns)

    def targets_of(self, table: Table, written: Sequence[str]) -> np.ndarray:
        """Return the grade of each row, float32 [N]."""
        assert self.columns is not None
        return grades_of(table.path, written, column=self.columns.target)

    def read(self, path: Path) -> Passages:
        """Return the queries and passages of another table."""
        found = super().read(path)
        return Passages(found.path, found.first, found.second, found.targets)

    def from_questions(self, questions: Sequence[tuple[str, ...]]) -> Passages:
        """Return queries with their passages, of which nobody knows how relevant they are."""
        return passages_of_questions(questions)

    def init_head(self, head: nn.Linear) -> None:
        """Start from the mean grade."""
        from scipy.special import logit

        head.bias.detach().fill_(float(logit(np.clip(self.middle, 0.01, 0.99))))

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the mean cross-entropy, in nats, of logits [B, 1, 1] and grades [B, 1]."""
        from torch.nn import functional

        logits, targets = scores.float().squeeze(-1), example.targets / self.top
        total = functional.binary_cross_entropy_with_logits(logits, targets)
        count = total.new_full((), targets.numel())
        return Loss(total, {self.name: PartSums(total.detach() * count, count)}, count)

    def evaluate(self, logits: np.ndarray, examples: Texts, *, mistakes: int = 0) -> EvalResult:
        """Return NDCG@10 and MRR@10 over queries, the loss, and the queries answered worst."""
        assert isinstance(examples, Passages)
        numbers, grades, scores = examples.query_numbers(), examples.targets, logits[:, 0].astype(np.float64)
        ranks = rank_passages(scores, grades, numbers)
        nats = np.logaddexp(0.0, scores) - scores * grades / self.top
        return EvalResult(
            figures={**ranks.figures(), "loss": float(nats.mean())},
            table=_by_place(ranks),
            mistakes=_worst(ranks, scores, examples, most=mistakes),
            warning=""
            if len(ranks.queries)
            else "no query has a relevant passage and another one to tell it from, so the figures are 0",
        )

    def resampled(self, logits: np.ndarray, examples: Texts) -> Resampled:
        """Return NDCG@10 and MRR@10 on any choice of the queries that are counted."""
        assert isinstance(examples, Passages)
        ranks = rank_passages(logits[:, 0].astype(np.float64), examples.targets, examples.query_numbers())
        return means({"ndcg_at_10": ranks.ndcg, "mrr_at_10": ranks.reciprocal})

    def counted(self, examples: Texts) -> Texts:
        """Return the queries that are counted, without their passages."""
        assert isinstance(examples, Passages)
        numbers = examples.query_numbers()
        ranks = rank_passages(np.zeros(len(numbers)), examples.targets, numbers)
        _, places = np.unique(numbers, return_index=True)
        firsts = places[ranks.queries]
        queries = [examples.first[place] for place in firsts.tolist()]
        return Texts(examples.path, queries, None, examples.targets[firsts])

    def predictions(self, logits: np.ndarray, examples: Texts) -> list[dict[str, Any]]:
        """Return for each query its passages, the best first, each with its place among those given and its score."""
        assert isinstance(examples, Passages)
        assert examples.counts is not None
        assert examples.second is not None
        scores, found = sigmoid(logits[:, 0]), []
        begins = np.cumsum(examples.counts) - examples.counts
        for begin, count in zip(begins.tolist(), examples.counts.tolist(), strict=True):
            order = np.argsort(-logits[begin : begin + count, 0], kind="stable").tolist()
            passages = [
                {"place": place, "text": examples.second[begin + place], "score": float(scores[begin + place])}
                for place in order
            ]
            found.append({"query": examples.first[begin], "passages": passages})
        return found


def _by_place(ranks: QueryRanks) -> ResultTable:
    rows, begin, total = [], 1, max(1, len(ranks.rank))
    for end, name in ((1, "1"), (3, "2 to 3"), (10, "4 to 10"), (2**62, "later")):
        count = int(((ranks.rank >= begin) & (ranks.rank <= end)).sum())
        rows.append([name, f"{count:,}", f"{count / total:.1%}"])
        begin = end + 1
    rows.append(["not counted: all passages of one grade", f"{ranks.left_out:,}", ""])
    return ResultTable("place of the first relevant passage", ["place", "queries", "fraction"], rows)


def _worst(ranks: QueryRanks, scores: np.ndarray, examples: Passages, *, most: int) -> list[Mistake]:
    """Return the queries whose first relevant passage comes last, with it and the passage that came first."""
    assert examples.second is not None
    numbers, found = examples.query_numbers(), []
    for place in np.argsort(-ranks.rank, kind="stable")[:most].tolist():
        if ranks.rank[place] == 1:
            break
        rows = np.flatnonzero(numbers == ranks.queries[place])
        relevant = rows[examples.targets[rows] > 0]
        best, first = relevant[scores[relevant].argmax()], rows[scores[rows].argmax()]
        found.append(
            Mistake(
                text=examples.first[rows[0]],
                label=f"{examples.second[best]} (place {ranks.rank[place]:,})",
                prediction=examples.second[first],
                error=float(ranks.rank[place]),
            )
        )
    return found
