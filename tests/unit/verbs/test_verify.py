"""What verify looks at is whole, and each thing that can go wrong is named with an exit code of 1."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bertwright.cli.main import main
from bertwright.errors import DataError, InputError, ModelError
from bertwright.hub.encoder_folder import read_encoder, save_model
from bertwright.hub.reference_outputs import CHECKSUMS, output_difference
from bertwright.model.build import build_encoder, named_size
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain
from bertwright.verbs.verify import verify


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with DATA and a RUN of four steps."""
    folder = tmp_path_factory.mktemp("made")
    lines = [f"Town {n} has {n % 7} rivers. It rains there in month {n % 12}." for n in range(400)]
    (folder / "text.txt").write_text("\n\n".join("\n".join(lines[n : n + 8]) for n in range(0, 400, 8)))
    prepare([folder / "text.txt"], folder / "data", vocab_size=512, valid_fraction=0.1)
    settings: dict[str, Any] = {
        "size": "tiny",
        "schedule": {"steps": 4, "phases": [{"length": 32, "rows": 4, "share": 1.0}]},
        "engine": {"compile": False, "precision": "fp32", "evaluations": 1, "evaluation_rows": 32, "log_every": 2},
    }
    pretrain(folder / "data", folder / "run", settings=settings)
    return folder


def test_whole_folders(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [check.what for check in verify(made / "data")] == ["tokenizer", "shards", "contents", "neighbour counts"]
    checks = verify(made / "run")
    assert [check.what for check in checks] == ["checkpoint step-4", "metrics.jsonl", "model files", "model outputs"]
    assert main(["verify", str(made / "run" / "model")]) == 0
    assert "DAMAGED" not in capsys.readouterr().out


def flip(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)


def double_last_line(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[-1]]))


@pytest.mark.parametrize(
    ("thing", "harm", "predicted"),
    [
        ("data", lambda f: flip(f / "train-00000.arrow"), "train-00000.arrow is missing or not as it was written"),
        ("data", lambda f: flip(f / "tokenizer" / "tokenizer.json"), "not the tokenizer"),
        ("data", lambda f: (f / "valid-00000.arrow").unlink(), "valid-00000.arrow is missing"),
        ("data", lambda f: flip(f / "neighbours.safetensors"), "neighbours.safetensors is damaged"),
        ("data", lambda f: (f / "neighbours.safetensors").unlink(), "neighbours.safetensors is damaged"),
        (
            "run",
            lambda f: flip(f / "checkpoints" / "step-4" / "optimizer.safetensors"),
            "optimizer.safetensors are not",
        ),
        ("run", lambda f: flip(f / "model" / "model.safetensors"), "model.safetensors are not those"),
        ("run", lambda f: double_last_line(f / "metrics.jsonl"), "do not rise from line to line"),
        ("run/model", lambda f: (f / "config.json").unlink(), "holds nothing bertwright makes"),
        ("run", lambda f: (f / "model" / CHECKSUMS).unlink(), "has no checksums.json"),
        ("run/checkpoints/step-4", lambda f: flip(f / "weights.safetensors"), "weights.safetensors are not"),
        ("run/model", lambda f: (f / "vocab.txt").unlink(), "vocab.txt is missing"),
    ],
)
def test_each_damage_is_named(
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    thing: str,
    harm: Callable[[Path], object],
    predicted: str,
) -> None:
    folder = shutil.copytree(made / thing, tmp_path / "copy")
    harm(folder)
    assert main(["verify", str(folder)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bertwright: ")]
    assert len(lines) == 1
    assert predicted in lines[0]


def test_counts_that_a_run_kept_in_an_older_folder_are_checked(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "data", tmp_path / "older")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["neighbours"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    kept = folder / "neighbours.safetensors"
    assert [check.what for check in verify(folder)][-1] == "neighbour counts"
    flip(kept)
    with pytest.raises(DataError, match=r"neighbours\.safetensors"):
        verify(folder)
    kept.unlink()
    assert [check.what for check in verify(folder)][-1] == "contents"


def test_a_model_that_says_something_else_is_found(made: Path, tmp_path: Path) -> None:
    """Files whose checksums fit, and a probe whose answers were others: another version of the code, say."""
    folder = shutil.copytree(made / "run" / "model", tmp_path / "model")
    kept = json.loads((folder / CHECKSUMS).read_text())
    assert output_difference(folder, read_encoder) < 1e-5
    kept["probe"]["logits"][7] += 0.01
    (folder / CHECKSUMS).write_text(json.dumps(kept))
    with pytest.raises(ModelError, match=r"\de-0\d"):
        verify(folder)


@pytest.mark.parametrize("architecture", ["bert", "modern"])
def test_a_probe_is_repeatable(made: Path, tmp_path: Path, architecture: str) -> None:
    """It is the same when asked again, and asking leaves the random numbers of the process alone."""
    shape = named_size("tiny", architecture=architecture, vocab_size=512, pad_token_id=0)
    model = build_encoder(shape).eval()
    save_model(model, made / "data" / "tokenizer", tmp_path / "model")
    state = torch.random.get_rng_state()
    assert output_difference(tmp_path / "model", read_encoder) == 0
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_shard_alone_is_refused(made: Path) -> None:
    with pytest.raises(InputError, match=r"shard.*DATA"):
        verify(made / "data" / "train-00000.arrow")
