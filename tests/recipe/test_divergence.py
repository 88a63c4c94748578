"""Runs at a learning rate of 1000: exit code 1 and a sentence, no model of meaningless numbers, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch

from bertwright.errors import TrainingError
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.train.callbacks.base import StepReport
from bertwright.train.callbacks.best import BestCallback
from bertwright.verbs.finetune import finetune
from bertwright.verbs.pretrain import pretrain

WORDS = ["red", "blue", "green", "cat", "dog", "runs", "sits", "here", "there", "now"]
WILD = {
    "precision": "fp32",
    "schedule": {"epochs": 1, "warmup": 0.0},
    "batches": {"rows": 4},
    "optimizer": {"learning_rate": 1000.0},
    "engine": {"compile": False},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained BERT."""
    folder = tmp_path_factory.mktemp("model")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape = named_size("tiny", vocab_size=len(names), hidden_size=32, heads=2, intermediate_size=64, max_positions=32)
    save_model(build_encoder(shape), folder / "tokenizer.json", folder / "model")
    return folder / "model"


def table(path: Path, header: str, line: Callable[[int], str]) -> Path:
    path.write_text(header + "".join(line(number) for number in range(24)), encoding="utf-8")
    return path


def text(number: int) -> str:
    return f"{WORDS[number % 3]} {WORDS[3 + number % 2]} {WORDS[5 + number % 5]}"


def question(number: int) -> dict[str, Any]:
    question = {"id": str(number), "question": "now here", "answers": [{"text": text(number)[:3], "answer_start": 0}]}
    return {"context": text(number), "qas": [question]}


def written(folder: Path, task: str) -> Path:
    """Return a small file of a task; a file of parallel text has two columns."""
    tables: dict[str, tuple[str, Callable[[int], str]]] = {
        "classify": ("text\tlabel\n", lambda n: f"{text(n)}\t{WORDS[n % 3]}\n"),
        "regress": ("text\tscore\n", lambda n: f"{text(n)}\t{n % 3}\n"),
        "embed": ("first\tsecond\tscore\n", lambda n: f"{text(n)}\t{text(n + 1)}\t{n % 3}\n"),
        "translate": ("source\ttarget\n", lambda n: f"{text(n)}\t{text(n + 1)}\n"),
        "tag": (
            "",
            lambda n: "".join(f"{word} {'B-X' if word in WORDS[:3] else 'O'}\n" for word in text(n).split()) + "\n",
        ),
    }
    if task == "answer":
        path = folder / "file.json"
        path.write_text(json.dumps({"data": [{"paragraphs": [question(number) for number in range(24)]}]}))
        return path
    if task == "choose":
        path = folder / "file.jsonl"
        line = {"context": "red cat", "choices": ["runs", "sits"], "label": 1}
        path.write_text(f"{json.dumps(line)}\n" * 24)
        return path
    return table(folder / f"file.{'conll' if task == 'tag' else 'tsv'}", *tables[task])


@pytest.mark.parametrize("task", ["classify", "regress", "tag", "answer", "choose", "translate", "embed"])
def test_a_wild_rate_ends_every_task_by_an_error(task: str, model: Path, tmp_path: Path) -> None:
    """Also where the patience ends with the first such evaluation, before the last step."""
    file, run = written(tmp_path, task), tmp_path / "run"
    settings = {**WILD, "schedule": {"epochs": 2}, "watch": {"patience": 1}} if task == "classify" else WILD
    with pytest.raises(TrainingError, match="--learning-rate") as caught:
        finetune(task, model, file, file, run, settings=settings)
    assert caught.value.exit_code == 1
    assert not (run / "model").exists()


def test_the_best_evaluation_before_is_kept(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes wrong after its first evaluation ends by an error, and leaves the model of that one."""
    file, run, usual = written(tmp_path, "classify"), tmp_path / "run", BestCallback.on_step

    def ruin(callback: BestCallback, report: StepReport) -> None:
        usual(callback, report)
        if report.notes.get("valid"):
            torch.nn.init.constant_(next(callback.model.parameters()), float("nan"))

    monkeypatch.setattr(BestCallback, "on_step", ruin)
    settings = {**WILD, "optimizer": {"learning_rate": 1e-3}, "schedule": {"epochs": 2}}
    with pytest.raises(TrainingError, match=r"step 6.*nan.*run.model.*step 6"):
        finetune("classify", model, file, file, run, settings=settings)
    assert "step 6" in json.loads((run / "result.json").read_text())["diverged"]
    assert (run / "model" / "model.safetensors").is_file()


def test_pre_training_at_a_wild_rate(data: Path, tmp_path: Path) -> None:
    """The second step, the last, is the first that counts; resumed, the run is judged again."""
    settings: dict[str, Any] = {
        "size": "tiny",
        "schedule": {"steps": 2, "phases": [{"length": 32, "rows": 4, "share": 1.0}]},
        "engine": {"compile": False, "precision": "fp32", "evaluation_rows": 32},
        "optimizer": {"learning_rate": 1000.0},
    }
    for resume in (False, True):
        with pytest.raises(TrainingError, match=r"diverged.*--learning-rate.*step-2"):
            pretrain(data, tmp_path / "run", recipe="classic", settings={} if resume else settings, resume=resume)
        assert not (tmp_path / "run" / "model").exists()
