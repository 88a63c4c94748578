"""Cross-validated runs: every example is predicted by a model that has not seen it, and wrong labels are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from bertwright.errors import ConfigError, ModelError, TrainingError, UsageError
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.train.task_setup import folds
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.finetune import finetune

GOOD, BAD, THINGS = ["fine", "great", "lovely"], ["poor", "dull", "awful"], ["film", "song", "book", "play"]
ROWS, FLIPPED = 360, 18
QUICK: dict[str, Any] = {
    "precision": "fp32",
    "schedule": {"epochs": 10},
    "optimizer": {"learning_rate": 3e-3},
    "batches": {"rows": 16},
    "transfer": {"dropout": 0.0},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained encoder of two blocks."""
    folder = tmp_path_factory.mktemp("model")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *THINGS, "the", "was"]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape = named_size("tiny", vocab_size=len(names), hidden_size=16, heads=2, intermediate_size=32, max_positions=32)
    save_model(build_encoder(shape), folder / "tokenizer.json", folder / "model")
    return folder / "model"


def reviews(path: Path, *, flipped: int) -> tuple[Path, set[int]]:
    """Write reviews, `flipped` of them with the wrong label; return the file and the numbers of those rows, from 1."""
    random = np.random.default_rng(0)
    wrong, lines = set(random.choice(ROWS, size=flipped, replace=False).tolist()), []
    for number in range(ROWS):
        good = number % 2
        word, thing = random.choice(GOOD if good else BAD), random.choice(THINGS)
        label = "good" if bool(good) != (number in wrong) else "bad"
        lines.append(f"the {thing} {number} was {word}\t{label}")
    path.write_text("\n".join(["text\tlabel", *lines]) + "\n", encoding="utf-8")
    return path, {number + 1 for number in wrong}


def test_folds_predict_all_and_find_wrong_labels(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, wrong = reviews(tmp_path / "train.tsv", flipped=FLIPPED)
    test, _ = reviews(tmp_path / "test.tsv", flipped=0)
    call: dict[str, Any] = {"train": file, "test": test, "folds": 3, "suspects": True, "settings": QUICK}
    figures = finetune("classify", model, **call, out=tmp_path / "run")
    assert figures["test"]["accuracy"] > 0.95
    assert [one["fold"] for one in figures["folds"]] == [0, 1, 2]
    each = [one["dev"]["accuracy"] for one in figures["folds"]]
    assert figures["mean"]["dev"]["accuracy"] == pytest.approx(np.mean(each), abs=1e-6)
    assert figures["spread"]["dev"]["accuracy"] == pytest.approx(np.std(each, ddof=1), abs=1e-6)
    assert figures["dev"]["accuracy"] == pytest.approx(np.mean(each), abs=1e-9)  # folds of 120 rows each
    assert figures["examples"]["train"] == ROWS
    assert figures["best_step"] == figures["steps"]
    found = [json.loads(line) for line in (tmp_path / "run" / "suspects.jsonl").read_text().splitlines()]
    assert len(wrong & {one["row"] for one in found}) >= 0.8 * FLIPPED
    assert len(found) <= 2 * FLIPPED
    lines = file.read_text(encoding="utf-8").splitlines()[1:]
    for one in found:
        assert lines[one["row"] - 1] == f"{one['text']}\t{one['label']}"
        assert one["probability_of_label"] < one["probability_of_suggested"]
    saved = evaluate("classify", tmp_path / "run" / "model", test)
    assert saved == pytest.approx(figures["test"], abs=1e-5)
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert "3 folds" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    def fails(*_: Any, **__: Any) -> None:
        raise TrainingError("interrupted")

    with monkeypatch.context() as patch:  # after its folds, before the model of all examples
        patch.setattr(folds, "note", lambda message: fails() if "all" in message else None)
        with pytest.raises(TrainingError, match="interrupted"):
            finetune("classify", model, **call, out=tmp_path / "again")
    assert len(list((tmp_path / "again" / "checkpoints" / "folds").iterdir())) == 3
    with monkeypatch.context() as patch:
        patch.setattr(folds, "with_examples", no_training := NoTraining(folds.with_examples))
        resumed = finetune("classify", model, **call, out=tmp_path / "again", resume=True)
    assert no_training.splits == [{"dev"}]
    kept = ("dev", "test", "folds", "mean", "spread", "suspects")
    assert {name: resumed[name] for name in kept} == {name: figures[name] for name in kept}
    weights = [tmp_path / run / "model" / "model.safetensors" for run in ("run", "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    compared = evaluate("classify", tmp_path / "run" / "model", test, against=tmp_path / "again" / "model")
    assert compared["accuracy"] == compared["against"]["accuracy"] == saved["accuracy"]
    same = {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    assert compared["differences"]["accuracy"] == compared["differences"]["f1"] == same
    assert "p" in str(compared)
    with pytest.raises(UsageError, match="against"):
        evaluate("mlm", tmp_path / "run" / "model", test, against=model)


class NoTraining:
    """Notes which splits are encoded: a fold that is trained has a split of its own to train on."""

    def __init__(self, function: Any) -> None:
        self.function, self.splits = function, []

    def __call__(self, setup: Any, examples: Any) -> Any:
        self.splits.append(set(examples))
        return self.function(setup, examples)


@pytest.mark.parametrize("task", ["regress", "tag"])
def test_folds_of_other_tasks(model: Path, tmp_path: Path, task: str) -> None:
    if task == "regress":
        rows = [f"the film {number} was fine\t{number % 5}" for number in range(40)]
        (tmp_path / "train.tsv").write_text("\n".join(["text\tscore", *rows]) + "\n")
    else:
        rows = [f"the O\nfilm B-X\n{number} O\n" for number in range(40)]
        (tmp_path / "train.tsv").write_text("\n".join(rows))
    settings = {**QUICK, "schedule": {"epochs": 1}, "head": {"crf": task == "tag"}}
    figures = finetune(task, model, tmp_path / "train.tsv", out=tmp_path / "run", folds=2, settings=settings)
    assert len(figures["folds"]) == 2
    assert set(figures["dev"]) >= {figures["metric"]}
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_calls_that_contradict_themselves_are_refused(model: Path, tmp_path: Path) -> None:
    file, _ = reviews(tmp_path / "train.tsv", flipped=0)
    out = tmp_path / "run"
    with pytest.raises(UsageError, match="--folds"):
        finetune("classify", model, file, file, out, folds=3)
    with pytest.raises(UsageError, match="--num-seeds"):
        finetune("classify", model, file, out=out, folds=3, num_seeds=2)
    for flags in ({"folds": 3, "patience": 2}, {"suspects": True}, {"folds": 3, "suspects": True, "multi_label": True}):
        with pytest.raises(ConfigError, match=r"folds|suspects"):
            finetune("classify", model, file, out=out, **flags)
    with pytest.raises(ConfigError, match="folds"):
        finetune("embed", model, file, out=out, folds=3)
    with pytest.raises(ConfigError, match="folds"):
        finetune("classify", model, file, out=out, folds=1)
    assert not out.exists()
    with pytest.raises(ModelError, match="damaged"):
        folds._read_fold(tmp_path)
