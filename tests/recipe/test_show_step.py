"""`show RUN --batch N` and `show DATA --recipe R --batch N` print the very rows and masks that training drew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bertwright.cli.main import main
from bertwright.config import write_toml
from bertwright.reports.text import row_text
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.setup.pretrain_config import resolve
from bertwright.train.step import Engine
from bertwright.types import Batch, MaskedBatch
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain

SETTINGS: dict[str, Any] = {
    "size": "tiny",
    "seed": 5,
    "objective": {"next_sentence": False, "whole_word": True, "mask_rate": 0.3, "final_mask_rate": 0.1},
    "schedule": {
        "steps": 6,
        "phases": [{"length": 32, "rows": 8, "share": 0.7}, {"length": 64, "rows": 4, "share": 0.3}],
    },
    "engine": {"compile": False, "precision": "fp32", "evaluations": 1, "accumulation": 2, "log_every": 1},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Batch, MaskedBatch]]]:
    """A folder with DATA and a RUN, and the first micro-batch of each of its steps, as it was drawn and corrupted."""
    folder = tmp_path_factory.mktemp("made")
    lines = [f"Town {n} has {n % 7} rivers. It rains there in month {n % 12}." for n in range(400)]
    (folder / "text.txt").write_text("\n\n".join("\n".join(lines[n : n + 8]) for n in range(0, 400, 8)))
    prepare([folder / "text.txt"], folder / "data", vocab_size=512, valid_fraction=0.1)
    seen: list[tuple[Batch, MaskedBatch]] = []
    example = Engine.example

    def recorded(self: Engine, objective: Any, batch: Any, **given: Any) -> Any:
        made = example(self, objective, batch, **given)
        if given["index"] == 0:
            seen.append((batch, made))
        return made

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Engine, "example", recorded)
        pretrain(folder / "data", folder / "run", settings=SETTINGS)
    return folder, seen[-6:]


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["show", *words]) == 0
    return _squeezed(capsys.readouterr().out)


@pytest.mark.parametrize("step", range(6))
def test_a_step_of_a_run_is_shown_as_it_was(
    made: tuple[Path, list[tuple[Batch, MaskedBatch]]], capsys: pytest.CaptureFixture[str], step: int
) -> None:
    folder, seen = made
    batch, example = seen[step]
    tokenizer = load_tokenizer(folder / "data")
    rows = [
        row_text(batch, example, row, tokens=tokenizer.tokens, mask_id=tokenizer.special.mask).plain for row in (0, 1)
    ]
    assert len(set(rows)) == 2
    for words in ([str(folder / "run")], [str(folder / "data"), "--recipe", str(folder / "run" / "config.toml")]):
        text = _shown(capsys, *words, "--batch", str(step), "--num-rows", "2")
        assert all(_squeezed(row) in text for row in rows)


def test_a_phase_counts_its_own_batches(
    made: tuple[Path, list[tuple[Batch, MaskedBatch]]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, seen = made
    later = next(place for place, (batch, _) in enumerate(seen) if batch.input_ids.shape[1] == 64)
    first = load_tokenizer(folder / "data").tokens[int(seen[later][0].input_ids[0, 5])]
    text = _shown(capsys, str(folder / "run"), "--batch", "0", "--phase", "2", "--num-rows", "1")
    assert "phase2" in text
    assert first in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--batch", "6"], "the run has steps 0 to 5"),
        (["run", "--batch", "0", "--phase", "3"], "--phase from 1 to 2"),
        (["run", "--batch", "0", "--length", "64"], "leave them out"),
        (["data", "--recipe", "fast"], "name one with --batch"),
        (["run/model", "--batch", "0"], "looks into a DATA folder"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    made: tuple[Path, list[tuple[Batch, MaskedBatch]]],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert main(["show", str(made[0] / words[0]), *words[1:]]) == 2
    assert message in capsys.readouterr().err


def test_a_run_measured_in_minutes_shows_its_first_phase(
    made: tuple[Path, list[tuple[Batch, MaskedBatch]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = made
    run = tmp_path / "run"
    run.mkdir()
    (run / "manifest.json").write_text((folder / "run" / "manifest.json").read_text())
    (run / "metrics.jsonl").write_text((folder / "run" / "metrics.jsonl").read_text())
    schedule = {"phases": SETTINGS["schedule"]["phases"], "minutes": 1}
    write_toml(run / "config.toml", resolve("classic", SETTINGS | {"schedule": schedule}))
    main(["show", str(run), "--batch", "1"])
    assert "phase 1" in capsys.readouterr().out
    assert main(["show", str(run), "--batch", "5"]) == 2
    assert "--phase 2" in capsys.readouterr().err


def test_a_checkpoint_shows_its_step_figures_and_checksums(
    made: tuple[Path, list[tuple[Batch, MaskedBatch]]], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = made[0] / "run" / "checkpoints" / "step-6"
    text = _shown(capsys, str(checkpoint))
    manifest = (checkpoint / "manifest.json").read_text()
    (digest,) = re.findall(r'"weights.safetensors": \{[^}]*"xxh3_128": "(\w+)"', manifest)
    assert digest in text
    assert "│step│6│" in text
    assert main(["verify", str(checkpoint)]) == 0
    (checkpoint / "manifest.json").write_text("{}")
    assert main(["show", str(checkpoint)]) == 1
    assert "is damaged" in capsys.readouterr().err
    (checkpoint / "manifest.json").write_text(manifest)


@pytest.mark.parametrize("thing", ["run", "run/checkpoints/step-6"])
def test_a_run_given_as_a_model_names_its_model(
    made: tuple[Path, list[tuple[Batch, MaskedBatch]]], capsys: pytest.CaptureFixture[str], tmp_path: Path, thing: str
) -> None:
    folder = made[0] / thing
    verbs = [
        ["predict", "--model", str(folder), "a [MASK]"],
        ["embed", "--model", str(folder), "--input", str(made[0] / "text.txt"), "--out", str(tmp_path / "v.npy")],
        ["export", "--model", str(folder), "--to", "onnx", "--out", str(tmp_path / "onnx")],
    ]
    for words in verbs:
        assert main(words) == 1
        assert str(made[0] / "run" / "model") in capsys.readouterr().err


def test_every_file_has_the_mode_of_all(made: tuple[Path, list[tuple[Batch, MaskedBatch]]]) -> None:
    (made[0] / "ordinary").touch()
    mode = (made[0] / "ordinary").stat().st_mode
    others = {path.name: path.stat().st_mode for path in made[0].rglob("*") if path.is_file()}
    assert {name for name, other in others.items() if other != mode} == set()
