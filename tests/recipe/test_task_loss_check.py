"""Fine-tuning says whether its loss is normal: a healthy run, labels that texts do not tell, a wild rate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.train.diagnosis.task_check import diagnose_task
from bertwright.verbs.finetune import finetune
from bertwright.verbs.show import show

WORDS = ["good", "bad", *(f"word{place}" for place in range(12))]
QUICK: dict[str, Any] = {
    "precision": "fp32",
    "schedule": {"epochs": 4},
    "optimizer": {"learning_rate": 2e-3},
    "batches": {"rows": 16},
    "transfer": {"dropout": 0.0},
    "watch": {"log_every": 2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(names[:5])
    backend.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    shape = {"vocab_size": len(names), "layers": 2, "hidden_size": 32, "heads": 2, "max_positions": 32}
    save_model(build_encoder(named_size("tiny", **shape)), folder / "tokenizer.json", folder / "model")
    return folder / "model"


def write_table(file: Path, *, meaningful: bool) -> Path:
    """Write 320 rows, the label being the first word; or texts that differ in an unknown word, with a coin's labels."""
    random = np.random.default_rng(0)
    rows = []
    for place in range(320):
        label = int(random.integers(2))
        words = [WORDS[label], *random.choice(WORDS[2:], 5)] if meaningful else [f"unknown{place}"]
        rows.append(f"{' '.join(words)}\t{label}")
    file.write_text("text\tlabel\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return file


def run_with(model: Path, table: Path, out: Path, **settings: Any) -> dict[str, Any]:
    finetune("classify", model, table, out=out, settings={**QUICK, **settings})
    found: dict[str, Any] = show(out)["loss_check"]
    return found


def test_a_healthy_run(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_with(model, write_table(tmp_path / "good.tsv", meaningful=True), tmp_path / "run")
    assert (found["state"], found["normal"]) == ("expected", True)
    assert capsys.readouterr().err.count("The loss is normal") == 1
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["constant_loss"] == pytest.approx(
        0.69, abs=0.01
    )
    assert "The loss is normal" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_labels_that_texts_do_not_tell(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_with(model, write_table(tmp_path / "coins.tsv", meaningful=False), tmp_path / "run")
    assert (found["state"], found["normal"]) == ("stuck", False)
    assert "--label-column" in found["text"]
    assert "The loss is not normal" in capsys.readouterr().err


def test_a_rate_far_too_high(model: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "good.tsv", meaningful=True)
    wild = {"optimizer": {"learning_rate": 0.3, "clip_norm": 0.0}}
    found = run_with(model, table, tmp_path / "run", **wild)
    assert found["state"] in {"stuck", "diverged", "collapsed"}
    assert "lower --learning-rate (0.2" in found["text"]


def lines_of(*losses: float, rate: float = 2e-5) -> list[dict[str, Any]]:
    count = len(losses)
    return [
        {"step": 10 * place, "loss": loss, "fraction": place / count, "learning_rate": rate}
        for place, loss in enumerate(losses, start=1)
    ]


@pytest.mark.parametrize(
    ("losses", "constant", "state"),
    [
        ([0.7, 0.6], 0.69, "early"),
        ([0.7, 0.6, float("nan")], 0.69, "diverged"),
        ([0.7, 0.69, 0.68, 0.5, 0.4, 0.3, 0.25], 0.69, "expected"),
        ([0.7] * 8, 0.69, "stuck"),
        ([0.7] * 8, None, "expected"),
        ([0.7, 0.6, 0.5, 0.3, 0.3, 0.3, 0.7, 0.7, 0.7], 0.69, "collapsed"),
        ([2.0, 1.5, 1.0, 0.8, 0.7, 0.7, 4.0, 5.0, 6.0], None, "diverged"),
        ([0.30, 0.35, 0.32, 0.4, 0.3, 0.42, 0.38], None, "expected"),
    ],
)
def test_what_is_said_of_curves(losses: list[float], constant: float | None, state: str) -> None:
    assert diagnose_task(lines_of(*losses), constant).state == state


def test_nothing_is_said_of_the_first_half() -> None:
    lines = lines_of(*[0.7] * 20)
    assert [diagnose_task(lines[:count], 0.69).normal for count in (6, 9, 10, 20)] == [True, True, False, False]
    assert "raise --learning-rate" in str(diagnose_task(lines_of(*[0.7] * 8, rate=1e-6), 0.69))


def test_a_rate_is_large_beside_the_usual_one_of_the_model() -> None:
    lines = lines_of(*[0.7] * 8, rate=2.7e-4)
    assert "lower --learning-rate" in str(diagnose_task(lines, 0.69))
    assert "lower --learning-rate" not in str(diagnose_task(lines, 0.69, usual_rate=2.7e-4))
