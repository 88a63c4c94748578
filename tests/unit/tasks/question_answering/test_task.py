"""Judging answers: the loss of training, the threshold that dev sets and later files keep, and what `predict` tells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import ConfigError, UsageError
from bertwright.tasks.base import TrainFile
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.question_answering.reader import Questions
from bertwright.tasks.question_answering.task import Answer
from bertwright.tasks.question_answering.windows import encode_contexts
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer

CONTEXT = "anna lives in rome . bert lives in oslo . " * 6
NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(CONTEXT.split())), "where", "?"]


@pytest.fixture
def encoder(tmp_path: Path) -> TextEncoder:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(NAMES)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.save(str(tmp_path / "tokenizer.json"))
    return TextEncoder(load_tokenizer(tmp_path), max_length=24)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four questions, the last two of which have no answer."""
    inputs: list[dict[str, Any]] = [
        {"answers": [{"text": "rome", "answer_start": CONTEXT.index("rome")}]},
        {"answers": [{"text": "oslo .", "answer_start": CONTEXT.rindex("oslo")}]},
        {"answers": [], "is_impossible": True},
        {"answers": [], "is_impossible": True},
    ]
    questions = [{"id": str(n), "question": "where ?"} | one for n, one in enumerate(inputs)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": CONTEXT, "qas": questions}]}]}))
    return path


def test_an_answer_keeps_the_accent_at_the_end_of_its_word(tmp_path: Path) -> None:
    """Accents as characters of their own (NFD) belong to no token where the tokenizer drops them."""
    names = {name: i for i, name in enumerate([*NAMES, "un", "ete", "ici"])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(names, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.NFD(), tokenizers.normalizers.StripAccents()]
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.save(str(tmp_path / "tokenizer.json"))
    contexts = ["un e\u0301te\u0301 ici", "\u00e9t\u00e9 ici", "ete"]
    passages = encode_contexts(load_tokenizer(tmp_path), contexts)
    spans = np.split(np.stack([passages.begins, passages.ends], axis=1), np.cumsum(passages.counts)[:-1])
    words = [[context[begin:end] for begin, end in of_one] for context, of_one in zip(contexts, spans, strict=True)]
    assert words == [context.split() for context in contexts]


def some_logits(examples: Questions, seed: int = 0) -> np.ndarray:
    assert examples.windows is not None
    random = np.random.default_rng(seed)
    return random.normal(size=(len(examples.windows.places), 2)).astype(np.float32)


def encoded(task: Answer, file: Path, encoder: TextEncoder) -> tuple[Questions, LabelledRows]:
    found = task.encode(task.read(file), encoder)
    return found.examples, found.rows


def test_what_is_cut_or_read_in_windows_is_said(
    file: Path, encoder: TextEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    encoded(Answer(), file, encoder)
    output = " ".join(capsys.readouterr().err.split())
    assert re.search("4 of 4 questions.*24 tokens.*windows", output)
    assert "cut" not in output
    Answer().encode(Answer().from_questions([("where ? " * 9, "rome"), ("where ?", "rome")]), encoder)
    output = " ".join(capsys.readouterr().err.split())
    assert re.search("1 of 2 questions.*12 tokens", output)


def test_the_figure_called_loss_is_that_of_training(file: Path, encoder: TextEncoder) -> None:
    task = Answer()
    examples, rows = encoded(task, file, encoder)
    assert len(rows) > 8
    logits = some_logits(examples)
    batch = rows.batch(np.arange(len(rows)))
    scores = torch.full((*batch.input_ids.shape, 2), 9.0)
    scores[batch.attention_mask] = torch.from_numpy(logits)
    trained = task.loss(scores, batch)
    assert task.evaluate(logits, examples).figures["loss"] == pytest.approx(float(trained.total), abs=1e-6)
    assert int(trained.parts["answer"].count) == len(rows)


def test_dev_sets_the_threshold_and_others_keep_it(file: Path, encoder: TextEncoder) -> None:
    task = Answer()
    examples, _ = encoded(task, file, encoder)
    windows = examples.windows
    assert windows is not None
    logits = np.zeros((len(windows.places), 2), dtype=np.float32)
    for row in range(len(windows.lengths)):
        sure = 4.0 if windows.question[row] < 2 else 1.0
        for edge in (0, 1):
            logits[windows.begins[row] + windows.targets[row, edge], edge] = sure
    evaluated = task.evaluate(logits, examples, mistakes=3)
    assert evaluated.figures["f1"] == evaluated.figures["best_f1"] == 1.0
    assert (evaluated.mistakes, evaluated.warning) == ([], "")
    silent = Answer.from_labels((), {"no_answer_threshold": -99.0}).evaluate(logits, examples)
    assert silent.warning.startswith("no question")
    tuned = task.tuned(logits, examples)
    assert tuned.extra_config["no_answer_threshold"] == evaluated.figures["no_answer_threshold"]
    assert tuned.tuned(logits, examples) is tuned
    assert Answer.from_labels((), tuned.extra_config).extra_config == tuned.extra_config
    logits[windows.begins[windows.question == 2]] -= 20
    worse = tuned.evaluate(logits, examples, mistakes=3)
    assert worse.figures["no_answer_accuracy"] == 0.5
    assert worse.figures["has_answer_f1"] == 1.0
    (mistake,) = worse.mistakes
    assert mistake.label == "no answer"
    predicted = tuned.predictions(logits, examples)
    assert [one["answer"] for one in predicted[:2]] == ["rome", "oslo ."]
    assert predicted[2]["answer"]
    assert (predicted[3]["answer"], predicted[3]["start"]) == ("", None)
    assert 0 < predicted[3]["probability"] < 1


def test_a_model_without_threshold_always_answers(file: Path, encoder: TextEncoder) -> None:
    task = Answer()
    examples, _ = encoded(task, file, encoder)
    logits = some_logits(examples)
    assert examples.windows is not None
    logits[examples.windows.begins] += 50
    for one in task.predictions(logits, examples):
        assert CONTEXT[one["start"] : one["end"]] == one["answer"] != ""
        assert one["probability"] > 0


def test_an_empty_context_has_no_answer(encoder: TextEncoder) -> None:
    task = Answer()
    examples = task.encode(task.from_questions([("where ?", " "), ("where ?", CONTEXT)]), encoder).examples
    nothing, something = task.predictions(some_logits(examples), examples)
    assert (nothing["answer"], nothing["probability"], nothing["others"]) == ("", 1.0, [])
    assert something["answer"]


def test_settings_that_do_not_fit(file: Path) -> None:
    with pytest.raises(ConfigError, match="max_answer"):
        Answer.from_labels((), {"max_answer": 0})
    with pytest.raises(UsageError, match="no columns"):
        Answer.from_train_file(TrainFile(file, ColumnsConfig(text="question")))
