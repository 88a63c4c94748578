"""Pre-training on several DATA folders: held-out figures of each, resuming from the settings, calls that do not fit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertwright.cli.main import main
from bertwright.corpus import cooccurrence
from bertwright.corpus.cooccurrence import count_neighbours
from bertwright.data.pretraining import dataset
from bertwright.data.pretraining.dataset import open_dataset, shuffled_together
from bertwright.errors import DataError, UsageError
from bertwright.model.init.neighbour_vectors import symmetric_counts
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain

SMALL: dict[str, Any] = {
    "size": "tiny",
    "schedule": {"steps": 6, "phases": [{"length": 32, "rows": 8, "share": 1.0}]},
    "engine": {"compile": False, "precision": "fp32", "log_every": 3, "evaluations": 1, "evaluation_rows": 32},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two corpora prepared with the tokenizer of the first."""
    root = tmp_path_factory.mktemp("mixture")
    made = []
    for name, word in (("towns", "town"), ("ships", "ship")):
        texts = [
            " ".join(f"The {word} {i} has {line} gates and {i + line} men." for line in range(8)) for i in range(150)
        ]
        (root / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        tokenizer = made[0] / "tokenizer" if made else None
        size = None if made else 512
        made.append(root / name)
        prepare([root / f"{name}.jsonl"], made[-1], vocab_size=size, tokenizer=tokenizer, valid_fraction=0.2)
    return made[0], made[1]


def test_a_mixture_trains_and_is_judged_folder_by_folder(folders: tuple[Path, Path], tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    figures = pretrain(folders, whole, mixture=[0.25, 0.75], settings=SMALL)
    valid = figures["valid"]
    assert valid["mlm_perplexity"] == pytest.approx(math.exp(valid["mlm_loss"]), rel=1e-6)
    assert valid["mlm_loss"] == pytest.approx(0.25 * valid["towns/mlm_loss"] + 0.75 * valid["ships/mlm_loss"], abs=2e-6)
    for folder in folders:
        again = evaluate("nsp", whole / "model", folder)
        assert again["mlm_loss"] == pytest.approx(valid[f"{folder.name}/mlm_loss"], abs=2e-5)
        assert again["nsp_accuracy"] == valid[f"{folder.name}/nsp_accuracy"]
    manifest = json.loads((whole / "manifest.json").read_text())
    assert [part["share"] for part in manifest["mixture"].values()] == [0.25, 0.75]
    engine = {**SMALL["engine"], "checkpoint_steps": 3}
    pretrain(folders, stopped, mixture=[0.25, 0.75], settings={**SMALL, "engine": engine})
    last = max((stopped / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))
    assert last.is_dir()
    one, other = (load_file(run / "model" / "model.safetensors") for run in (whole, stopped))
    assert all((one[name] == other[name]).all() for name in one)
    resumed = pretrain(folders[0], stopped, resume=True, settings={"schedule": {"steps": 6}})
    assert resumed["valid"] == valid


def test_words_start_from_all_folders(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Added up, they are to the bit what counting all shards in turns gives; nothing is counted for it."""
    both = open_dataset(folders)
    expected = count_neighbours(shuffled_together(both.train), 512)
    monkeypatch.setattr(cooccurrence, "count_neighbours", lambda *_: pytest.fail("counted"))
    found = both.neighbour_counts()
    assert torch.equal(symmetric_counts(found), symmetric_counts(expected))
    assert found.words.tolist() == expected.words.tolist()
    monkeypatch.setattr(dataset, "can_merge", lambda *_: False)
    monkeypatch.setattr(cooccurrence, "word_frequencies", lambda *_: pytest.fail("read all tokens"))
    together = both.neighbour_counts()
    assert together.frequencies.tolist() == expected.frequencies.tolist()
    assert torch.equal(symmetric_counts(together), symmetric_counts(expected))


def test_mixtures_that_do_not_fit_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    towns, ships = folders
    for shares in ([0.5], [0.5, 0.3, 0.2], [1, 0], [-1, 2], [1, float("nan")]):
        with pytest.raises(UsageError, match="--mixture"):
            pretrain(folders, tmp_path / "run", mixture=shares, settings=SMALL)
    with pytest.raises(UsageError, match="twice"):
        pretrain([towns, towns], tmp_path / "run", settings=SMALL)
    other = tmp_path / "other"
    prepare([towns.with_suffix(".jsonl")], other, vocab_size=640, valid_fraction=0)
    with pytest.raises(DataError, match="another tokenizer"):
        pretrain([towns, other], tmp_path / "run", settings=SMALL)
    assert main(["pretrain", "--data", str(towns), "--data", str(ships), "--mixture", "a,b", "--out", "x"]) == 2
    assert "list of numbers" in capsys.readouterr().err
