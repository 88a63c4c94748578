"""A student that is its teacher has nothing to learn: its loss is 0 for every task, slot by slot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from bertwright.config import compose
from bertwright.distillation.config import DistillConfig
from bertwright.distillation.distilled_task import DistilledSetup
from bertwright.distillation.task_inputs import DistillInputs, set_up_distilled
from bertwright.distillation.task_objective import TracedLoss
from bertwright.distillation.taught_rows import TaughtBatch
from bertwright.errors import ModelError
from bertwright.hub.task_folder import save_fine_tuned
from bertwright.model.build import build_encoder, named_size
from bertwright.model.task_model import FineTuned
from bertwright.tasks.base import TrainFile
from bertwright.tasks.by_name import config_to_keep, task_named
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.head import HeadConfig
from bertwright.train.task_setup.finetune_config import resolve_finetune

TEXT = "anna bert lives in rome oslo . likes the cat dog and where does who is it"
WORDS = TEXT.split()
ROWS = 24


def sentences(seed: int) -> list[str]:
    """Return sentences of several lengths, no two alike."""
    random = np.random.default_rng(seed)
    return [f"{' '.join(random.choice(WORDS, size=3 + n % 9))} {WORDS[n % 5]}" for n in range(ROWS)]


def table(file: Path, column: str, values: list[Any]) -> Path:
    """Write texts and a column beside them."""
    lines = [f"{text}\t{value}" for text, value in zip(sentences(0), values, strict=True)]
    file.write_text(f"text\t{column}\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return file


def conll(file: Path) -> Path:
    """Write sentences of words and tags."""
    tags = ["O", "B-PER", "I-PER", "O", "B-LOC"]
    blocks = [
        "\n".join(f"{word} {tags[place % 5]}" for place, word in enumerate(text.split())) for text in sentences(0)
    ]
    file.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return file


def squad(file: Path) -> Path:
    """Write questions about contexts."""
    paragraphs = []
    for number, text in enumerate(sentences(0)):
        answer = {"text": text.split()[1], "answer_start": text.index(text.split()[1])}
        question = {"id": str(number), "question": "where does anna live", "answers": [answer]}
        paragraphs.append({"context": text, "qas": [question]})
    file.write_text(json.dumps({"version": "1.1", "data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    return file


def choices(file: Path) -> Path:
    """Write contexts with two or three endings."""
    rows = [
        {"context": text, "choices": WORDS[n % 4 : n % 4 + 2 + n % 2], "label": n % 2}
        for n, text in enumerate(sentences(0))
    ]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return file


FILES: dict[str, tuple[str, HeadConfig, Callable[[Path], Path]]] = {
    "classify": ("classify", HeadConfig(), lambda f: table(f / "a.tsv", "label", [f"c{n % 3}" for n in range(ROWS)])),
    "multi-label": (
        "classify",
        HeadConfig(multi_label=True),
        lambda f: table(f / "a.tsv", "label", ["x|y", "y", "x|z", "z"] * (ROWS // 4)),
    ),
    "regress": ("regress", HeadConfig(), lambda f: table(f / "a.tsv", "score", [n / 7 for n in range(ROWS)])),
    "tag": ("tag", HeadConfig(), lambda f: conll(f / "a.conll")),
    "answer": ("answer", HeadConfig(), lambda f: squad(f / "a.json")),
    "choose": ("choose", HeadConfig(), lambda f: choices(f / "a.jsonl")),
}


def write_teacher(folder: Path, name: str, train: Path, head: HeadConfig, *, turned: bool = False) -> Path:
    """Write a drawn model of a task, its labels the other way round where they are to be `turned`."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys([*WORDS, "live"])]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(names[:5])
    folder.mkdir(parents=True)
    backend.save(str(folder / "tokenizer.json"))
    config = resolve_finetune(name, {"head": head.model_dump()})
    kind = task_named(name, head)
    task, _ = kind.from_train_file(TrainFile(train, ColumnsConfig(), head, config.extra_config(kind)))
    labels = tuple(reversed(task.labels)) if turned else task.labels
    torch.manual_seed(3)
    shape = named_size("tiny", vocab_size=len(names), hidden_size=16, heads=2, max_positions=48, initializer_range=0.4)
    model = FineTuned(build_encoder(shape), head_type=task.head_type, outputs=len(labels), dropout=0.0)
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    save_fine_tuned(
        model.eval(), folder, folder / "model", labels=labels, problem=task.problem, extra_config=config_to_keep(task)
    )
    return folder / "model"


def set_up(name: str, teacher: Path, train: Path, head: HeadConfig, *texts: Path, **weights: float) -> DistilledSetup:
    """Return the setup of a student that is a copy of its teacher."""
    config = resolve_finetune(name, {"head": head.model_dump(), "transfer": {"dropout": 0.0, "head_dropout": 0.0}})
    distill = compose(DistillConfig, {"weights": {"labels": 0.0, **weights}})
    setup = set_up_distilled(config, distill, DistillInputs((teacher,), None, {"train": train, "dev": train}, texts))
    return replace(setup, device=torch.device("cpu"), precision="fp32")


@pytest.mark.parametrize("kind", FILES)
def test_a_copy_of_the_teacher_has_no_loss(kind: str, tmp_path: Path) -> None:
    name, head, write = FILES[kind]
    train = write(tmp_path)
    teacher = write_teacher(tmp_path / "teacher", name, train, head, turned=kind in ("classify", "tag"))
    texts = []
    if kind in ("classify", "tag", "regress"):
        (tmp_path / "more.txt").write_text("\n".join(sentences(9)) + "\n", encoding="utf-8")
        texts.append(tmp_path / "more.txt")
    setup = set_up(name, teacher, train, head, *texts, hidden=1.0, relations=1.0, attention=1.0)
    taught = setup.with_answers(tmp_path / "answers", {"of": kind})
    rows = taught.splits["train"].rows
    assert bool(rows.labelled.all()) == (not texts)
    model, source = taught.new_model(0).eval(), taught.source(0)
    loss = TracedLoss(model, taught.teacher.encoder, taught.objective(model), taught.states, taught.cast)
    for t in range(3):
        example = source.draw(t)
        assert isinstance(example, TaughtBatch)
        with torch.no_grad():
            found = loss(example)
            assert float(found.total) == pytest.approx(0, abs=1e-4)
            other = replace(example, taught=example.taught.flip(1 if name == "answer" else 0) + example.taught)
            assert float(taught.objective(model).loss(model(example), other).total) > 1e-3


def test_answers_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = table(tmp_path / "a.tsv", "label", [f"c{n % 3}" for n in range(ROWS)])
    setup = set_up("classify", write_teacher(tmp_path / "t", "classify", train, HeadConfig()), train, HeadConfig())
    first = setup.with_answers(tmp_path / "answers", {"seed": 0}).splits["train"].rows.taught
    monkeypatch.setattr("bertwright.distillation.distilled_task.ask", None)
    again = setup.with_answers(tmp_path / "answers", {"seed": 0}).splits["train"].rows.taught
    assert np.array_equal(first, again)
    with pytest.raises(TypeError):
        setup.with_answers(tmp_path / "answers", {"seed": 1})


def test_a_teacher_of_other_labels_is_refused(tmp_path: Path) -> None:
    train = table(tmp_path / "a.tsv", "label", [f"c{n % 3}" for n in range(ROWS)])
    teacher = write_teacher(tmp_path / "t", "classify", train, HeadConfig())
    other = table(tmp_path / "b.tsv", "label", [f"d{n % 3}" for n in range(ROWS)])
    with pytest.raises(ModelError, match="labels"):
        set_up("classify", teacher, other, HeadConfig())
