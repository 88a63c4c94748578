"""Says where in a context the answer to a question stands, or that it does not (Devlin et al., 2018, 4.2 and 4.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from bertwright.config import Section, compose
from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import UsageError
from bertwright.log import ResultTable, note
from bertwright.tasks.base import Task, TrainFile
from bertwright.tasks.bootstrap import Resampled, means
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.eval_result import SAME_PREDICTION, EvalResult, Mistake, worst_first
from bertwright.tasks.examples import EncodedExamples, split_dev
from bertwright.tasks.question_answering.decode import BestSpans, Spans, best_spans, span_mass
from bertwright.tasks.question_answering.metrics import best_threshold, score_answers
from bertwright.tasks.question_answering.reader import Questions, lacks_answers, questions_with_contexts, read_squad
from bertwright.tasks.question_answering.windows import window_rows
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.types import LabelledBatch, Loss, PartSums

if TYPE_CHECKING:
    from torch import Tensor

    from bertwright.model.encoder import HeadType

KINDS: dict[str, str] = {
    "who": r"\b(?:who|whose|whom)\b|谁",
    "when": r"\bwhen\b|何时|时候|什么时间|哪[一]?[年天月日]|几[年月日]",
    "where": r"\bwhere\b|哪里|哪儿|何[处地]|什么地方",
    "why": r"\bwhy\b|为什么|为何|原因",
    "how many": r"\bhow (many|much|long|old|far)\b|多少|多[长大高远久]|几",
    "how": r"\bhow\b|怎[么样]|如何",
    "which": r"\bwhich\b|哪",
    "what": r"\bwhat\b|什么|何",
}
"""What a question asks for, the first that is found in it."""
OTHERS = 4
"""Further spans that `predict` shows."""
AROUND = 150
"""Characters of the context shown to either side of the reference answer."""


NO_ANSWER: dict[str, Any] = {"answer": "", "start": None, "end": None}
"""What `predict` shows where there is none."""


class AnswerConfig(Section):
    """How contexts are cut, and which spans may be an answer."""

    window: int = Field(default=384, ge=16)
    """Tokens of a row: question, a window of the context and three special tokens; at most batches.max_length."""
    stride: int = Field(default=128, ge=0)
    """Tokens by which the windows of a context overlap; at most half a window."""
    question_share: float = Field(default=0.5, gt=0, le=0.5)
    """Share of a row a question may take; the rest of a longer one is cut."""
    max_answer: int = Field(default=30, ge=1)
    """Tokens of the longest answer that is given; Chinese, at a token a character, may want more."""
    no_answer_threshold: float | None = None
    """Nothing is answered where the score of no answer is so far above that of the best span. Set from dev where not
    given; None for models that always answer."""


@dataclass(frozen=True)
class Answer(Task[Questions]):
    """The best span of the context by the logits of its first and last token.

    settings  of windows and spans
    encoding  how the characters of the files are written; None detects it
    """

    name: ClassVar[str] = "answer"
    head_type: ClassVar[HeadType] = "span"
    metric: ClassVar[str] = "f1"
    metrics: ClassVar[tuple[str, ...]] = ("f1", "exact", "loss")
    pairs = True
    labels = ("start", "end")
    settings: AnswerConfig = field(default_factory=AnswerConfig)
    encoding: str | None = None

    @classmethod
    def from_train_file(cls, file: TrainFile) -> tuple[Self, dict[str, Questions]]:
        """Return the task and the questions of a training file."""
        file.head.refuse("multi_label", "class_weights", "crf", "positive", "windows", task=cls.name)
        if file.columns.names():
            raise UsageError("answer reads SQuAD json, which has no columns; leave out --text-column and the like")
        examples = read_squad(file.path, file.columns.encoding)
        lacking = sum(not answers for answers in examples.answers)
        kind = f"SQuAD 2.0, {lacking:,} of them without an answer" if examples.impossible else "SQuAD 1.1"
        note(f"{file.path}: {len(examples):,} questions about {len(examples.contexts):,} contexts; {kind}")
        task = cls(compose(AnswerConfig, file.extra_config), file.columns.encoding)
        return task, split_dev(examples, file.dev_fraction)

    @classmethod
    def from_labels(cls, labels: Sequence[str], extra_config: Mapping[str, Any] | None = None) -> Self:
        """Return the task of a trained model, with the settings its folder keeps."""
        return cls(compose(AnswerConfig, extra_config or {}))

    @property
    def extra_config(self) -> dict[str, Any]:
        """The settings, threshold included."""
        return self.settings.model_dump(exclude_none=True)

    def with_columns(self, path: Path, columns: ColumnsConfig) -> Self:
        """Return the task as it is but for the encoding: SQuAD json has no columns."""
        return replace(self, encoding=columns.encoding)

    def tuned(self, logits: np.ndarray, examples: Questions) -> Self:
        """Return the task with the threshold that is best on dev, where questions without an answer are among it."""
        best = self.evaluate(logits, examples).figures.get("no_answer_threshold")
        if best is None or self.settings.no_answer_threshold is not None:
            return self
        return replace(self, settings=self.settings.model_copy(update={"no_answer_threshold": best}))

    def read(self, path: Path) -> Questions:
        """Return the questions of another file."""
        return read_squad(path, self.encoding)

    def unlabelled(self, path: Path) -> UnlabelledFile | None:
        """Return a file of questions without answers as what is to be predicted; None where it has some."""
        return UnlabelledFile(path) if lacks_answers(path, self.encoding) else None

    def from_questions(self, questions: Sequence[tuple[str, ...]]) -> Questions:
        """Return pairs of question and context."""
        return questions_with_contexts(questions)

    def encode(self, examples: Questions, encoder: TextEncoder) -> EncodedExamples[Questions, LabelledRows]:
        """Return a row for each window of each question, and examples that know where the tokens of these come from."""
        rows, windows = window_rows(
            examples.questions,
            examples.contexts,
            examples.context_of,
            examples.spans,
            encoder,
            length=min(self.settings.window, encoder.max_length),
            stride=self.settings.stride,
            question_share=self.settings.question_share,
        )
        return EncodedExamples(replace(examples, windows=windows), rows)

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the mean of the cross-entropies of starts and ends, in nats: logits [B, S, 2], targets [B, 2]."""
        from torch.nn import functional

        logits = scores.float().masked_fill(~example.attention_mask.unsqueeze(-1), -1e9)
        total = functional.cross_entropy(logits, example.targets)
        correct = (logits.argmax(1) == example.targets).all(-1).sum()
        count = correct.new_full((), len(example.targets))
        return Loss(total, {self.name: PartSums(total.detach() * count, count, correct)}, mass=count)

    def evaluate(self, logits: np.ndarray, examples: Questions, *, mistakes: int = 0) -> EvalResult:
        """Return exact match and F1, a table by kind of question, and the surest wrong answers.

        Where questions may lack an answer, also the figures with and without one, and the best F1 a threshold can give;
        without a threshold of its own the task is evaluated with that one.
        """
        spans = self._spans(logits, examples)
        best = spans.best(1)[0]
        predictions, exact, f1, figures = self._answers(spans, best, examples)
        answerable = np.array([bool(answers) for answers in examples.answers])
        figures = {"f1": float(f1.mean()), "exact": float(exact.mean()), **_parts(exact, f1, answerable), **figures}
        figures["loss"] = _loss(logits, examples)
        worst: list[Mistake] = []
        if mistakes:
            may_be_silent = examples.impossible or self.settings.no_answer_threshold is not None
            surely, silence = self._probabilities(logits, spans, [best], silent=may_be_silent)
            sure = np.where([bool(text) for text in predictions], surely, silence)
            worst = _worst(predictions, sure, (1 - f1) * sure, examples, most=mistakes)
        warning = f"no question is answered: {SAME_PREDICTION}" if answerable.any() and not any(predictions) else ""
        return EvalResult(figures, _by_kind(exact, f1, answerable, examples), worst, warning)

    def _answers(
        self, spans: BestSpans, best: Spans, examples: Questions
    ) -> tuple[list[str], np.ndarray, np.ndarray, dict[str, float]]:
        """Return the answer to each question, its exact match and F1 [N], and what the best threshold would give."""
        predictions, figures = _texts(best, examples), dict[str, float]()
        exact, f1 = score_answers(predictions, examples.answers)
        answerable = np.array([bool(answers) for answers in examples.answers])
        threshold = self.settings.no_answer_threshold
        if not answerable.all():
            found = best_threshold(f1, spans.null_scores - best.scores, answerable)
            threshold = found.value if threshold is None else threshold
            figures = {"best_f1": found.score, "no_answer_threshold": found.value}
        if threshold is not None:
            silent = spans.null_scores - best.scores > threshold
            predictions = ["" if quiet else text for text, quiet in zip(predictions, silent.tolist(), strict=True)]
            exact, f1 = (np.where(silent, ~answerable, scores).astype(np.float64) for scores in (exact, f1))
        return predictions, exact, f1, figures

    def resampled(self, logits: np.ndarray, examples: Questions) -> Resampled:
        """Return F1 and exact match on any choice of questions."""
        spans = self._spans(logits, examples)
        _, exact, f1, _ = self._answers(spans, spans.best(1)[0], examples)
        return means({"f1": f1, "exact": exact})

    def _spans(self, logits: np.ndarray, examples: Questions) -> BestSpans:
        assert examples.windows is not None
        return best_spans(logits, examples.windows, longest=self.settings.max_answer)

    def _probabilities(
        self, logits: np.ndarray, every: BestSpans, spans: Sequence[Spans], *, silent: bool
    ) -> list[np.ndarray]:
        """Return the probabilities [N] of spans among all there are, then that of no answer, if one may be `silent`."""
        highest, mass = span_mass(logits, every, longest=self.settings.max_answer)
        none = np.exp(np.minimum(every.null_scores - highest, 700.0)) if silent else np.where(mass > 0, 0.0, 1.0)
        mass = mass + none
        return [*(np.exp(span.scores - highest) / mass for span in spans), none / mass]

    def predictions(self, logits: np.ndarray, examples: Questions) -> list[dict[str, Any]]:
        """Return for each question its answer, the characters of the context it stands at, score and probability.

        The answer is empty where there is none; `others` are the next best spans.
        """
        every = self._spans(logits, examples)
        best = every.best(1 + OTHERS)
        threshold = self.settings.no_answer_threshold
        *probabilities, silence = self._probabilities(logits, every, best, silent=threshold is not None)
        found = []
        for place, question in enumerate(examples.questions):
            spans = [_span(one, sure, examples, place) for one, sure in zip(best, probabilities, strict=True)]
            first, *others = [span for span in spans if span is not None] or [NO_ANSWER]
            if threshold is not None and every.null_scores[place] - best[0].scores[place] > threshold:
                first, others = NO_ANSWER, [first, *others][:OTHERS]
            if not first["answer"]:
                first = first | {"score": float(every.null_scores[place]), "probability": float(silence[place])}
            name = {"id": examples.ids[place]} if examples.ids[place] else {}
            found.append({**name, "question": question, **first, "others": others})
        return found


def _worst(
    predictions: list[str], sure: np.ndarray, errors: np.ndarray, examples: Questions, *, most: int
) -> list[Mistake]:
    """Return the answers of the largest `errors` [N], with how `sure` [N] each is."""
    return [
        Mistake(
            text=f"{examples.questions[place]} | {_around(examples, place)}",
            label=" / ".join(dict.fromkeys(examples.answers[place])) or "no answer",
            prediction=f"{predictions[place] or 'no answer'} ({sure[place]:.1%})",
            error=float(errors[place]),
        )
        for place in worst_first(errors, most)
    ]


def _texts(spans: Spans, examples: Questions) -> list[str]:
    """Return the text of a span of each question."""
    places = zip(examples.context_of.tolist(), spans.characters.tolist(), strict=True)
    return [examples.contexts[context][begin:end].strip() for context, (begin, end) in places]


def _span(spans: Spans, probabilities: np.ndarray, examples: Questions, place: int) -> dict[str, Any] | None:
    """Return a span as `predict` shows it, without blanks around it; None where there is none."""
    if not np.isfinite(spans.scores[place]):
        return None
    begin, end = spans.characters[place].tolist()
    piece = examples.contexts[examples.context_of[place]][begin:end]
    begin += len(piece) - len(piece.lstrip())
    text = piece.strip()
    score, sure = float(spans.scores[place]), float(probabilities[place])
    return {"answer": text, "start": begin, "end": begin + len(text), "score": score, "probability": sure}


def _parts(exact: np.ndarray, f1: np.ndarray, answerable: np.ndarray) -> dict[str, float]:
    """Return the figures of questions that have an answer and of those that have none, where there are both."""
    if answerable.all() or not answerable.any():
        return {}
    return {
        "has_answer_f1": float(f1[answerable].mean()),
        "has_answer_exact": float(exact[answerable].mean()),
        "no_answer_accuracy": float(exact[~answerable].mean()),
    }


def _loss(logits: np.ndarray, examples: Questions) -> float:
    """Return the mean over windows of the loss of training, in nats."""
    windows = examples.windows
    assert windows is not None
    values = logits.astype(np.float64)
    most = np.maximum.reduceat(values, windows.begins)
    masses = np.add.reduceat(np.exp(values - np.repeat(most, windows.lengths, axis=0)), windows.begins)
    at = windows.begins[:, None] + windows.targets
    return float((np.log(masses) + most - values[at, np.arange(2)]).mean())


def _by_kind(exact: np.ndarray, f1: np.ndarray, answerable: np.ndarray, examples: Questions) -> ResultTable:
    """Return figures by what a question asks for, and by whether it has an answer."""
    patterns = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in KINDS.items()}
    kinds = np.array(
        [next((k for k, pattern in patterns.items() if pattern.search(q)), "other") for q in examples.questions]
    )
    chosen = {kind: kinds == kind for kind in (*KINDS, "other")}
    if not answerable.all():
        chosen |= {"with an answer": answerable, "without an answer": ~answerable}
    chosen["all"] = np.ones(len(kinds), dtype=bool)
    rows = [
        [kind, f"{np.count_nonzero(here):,}", f"{exact[here].mean():.4f}", f"{f1[here].mean():.4f}"]
        for kind, here in chosen.items()
        if here.any()
    ]
    return ResultTable("answers by kind of question", ["kind", "questions", "exact", "f1"], rows)


def _around(examples: Questions, place: int) -> str:
    """Return the context of a question, that of its reference answer where it is long."""
    context = examples.contexts[examples.context_of[place]]
    begin, end = examples.spans[place].tolist()
    begin, end = max(0, begin - AROUND), max(0, end) + AROUND
    return f"{'...' if begin else ''}{context[begin:end]}{'...' if end < len(context) else ''}"
