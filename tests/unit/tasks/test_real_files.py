"""The files of real tasks, where they lie beside the project, are read whole and by their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bertwright.tasks.base import TrainFile
from bertwright.tasks.by_name import task_named
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.question_answering.task import Answer, AnswerConfig
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer
from bertwright.tokenizer.train_vocabulary import train_tokenizer

TASKS = Path(__file__).parents[4] / "shared" / "data" / "tasks"
FILES = {
    "sst2/train.tsv": ("classify", 6920, 2),
    "cola/train.tsv": ("classify", 8551, 2),
    "mrpc/train.tsv": ("classify", 3668, 2),
    "rte/train.tsv": ("classify", 2567, 2),
    "agnews/train.tsv": ("classify", 6000, 4),
    "trec/train.tsv": ("classify", 4952, 6),
    "subjectivity/train.tsv": ("classify", 8000, 2),
    "chnsenticorp/train.tsv": ("classify", 9255, 2),
    "stsb/train.tsv": ("regress", 5749, 1),
    "conll2003/dev.conll": ("tag", 3250, 9),
    "wnut17/train.conll": ("tag", 3394, 13),
    "wikiann_en/dev.conll": ("tag", 10_000, 7),
    "msra_ner/dev.conll": ("tag", 3000, 7),
    "squad1_subset/train.json": ("answer", 2015, 2),
    "squad2_subset/train.json": ("answer", 4282, 2),
    "xquad/en.json": ("answer", 1190, 2),
    "cmrc2018/dev.json": ("answer", 3219, 2),
}


@pytest.mark.parametrize("name", FILES)
def test_every_example_is_read(name: str) -> None:
    if not (TASKS / name).is_file():
        pytest.skip("the files of real tasks are not here")
    kind, count, labels = FILES[name]
    task, splits = task_named(kind).from_train_file(TrainFile(TASKS / name, ColumnsConfig()))
    examples = splits["train"]
    assert len(examples.counts if kind == "tag" else examples) == count
    assert len(task.labels) == labels


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_true_answers_come_back_from_their_tokens(kind: str, tmp_path: Path) -> None:
    """Logits that say the truth give it back, from characters to tokens of windows to characters, for any tokenizer."""
    file = TASKS / "squad1_subset" / "dev.json"
    if not file.is_file():
        pytest.skip("the files of real tasks are not here")
    task = Answer(AnswerConfig(window=160, stride=80, max_answer=80))
    examples = task.read(file)
    tokenizer = train_tokenizer(examples.contexts, folder=tmp_path, vocab_size=1024, kind=kind, lowercase=False)
    examples = task.encode(examples, TextEncoder(load_tokenizer(tokenizer.path), max_length=512)).examples
    windows = examples.windows
    assert windows is not None
    logits = np.zeros((len(windows.places), 2), dtype=np.float32)
    for edge in (0, 1):
        logits[windows.begins + windows.targets[:, edge], edge] = np.where(windows.targets[:, 0] > 0, 60.0, 20.0)
    predicted = [one["answer"] for one in task.predictions(logits, examples)]
    # a token may hold the full stop behind an answer
    assert np.mean([ours.startswith(true[0]) for ours, true in zip(predicted, examples.answers, strict=True)]) > 0.97
    assert task.evaluate(logits, examples).figures["f1"] > 0.97
