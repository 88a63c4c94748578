"""benchmarks/same_results notices what differs between two folders of results, and nothing that only the clock says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

FOLDER = Path(__file__).parents[2] / "benchmarks" / "same_results"
LINES: list[dict[str, Any]] = [
    {"step": step, "seconds": step / 7, "valid": {"mlm_loss": 6.0 - step / 10}} for step in (1, 2, 3)
]
TABLE = "│ loss  │ 5.25 │\n│ speed │ 8,003 tokens/s, MFU 32% │\n"


@pytest.fixture
def comparer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that compares."""
    monkeypatch.syspath_prepend(FOLDER)
    import comparer

    return comparer


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with the same results of a run."""
    run = tmp_path / "one" / "run"
    (run / "model").mkdir(parents=True)
    save_file(
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2).bfloat16()}, run / "model" / "model.safetensors"
    )
    write_lines(run / "metrics.jsonl", LINES)
    (run / "result.json").write_text(json.dumps({"steps": 3, "seconds": 1.5, "seeds": [{"f1": 0.5}, {"f1": 0.25}]}))
    (run.parent / "1-show.out").write_text(TABLE)
    np.save(run.parent / "vectors.npy", np.eye(3, dtype=np.float32))
    (run.parent / "train.bin").write_bytes(b"shard")
    return run.parent, shutil.copytree(run.parent, tmp_path / "two")


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def changed_tensor(two: Path) -> None:
    path = two / "run" / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors["a"][1, 2] += 0.25
    save_file(tensors, path)


def changed_vector(two: Path) -> None:
    vectors = np.load(two / "vectors.npy")
    vectors[0, 1] = np.nan
    np.save(two / "vectors.npy", vectors)


def changed_figure(two: Path) -> None:
    write_lines(two / "run" / "metrics.jsonl", [*LINES[:2], {**LINES[2], "valid": {"mlm_loss": 5.5}}])


def missing_line(two: Path) -> None:
    write_lines(two / "run" / "metrics.jsonl", LINES[:2])


def moved_figure(two: Path) -> None:
    (two / "run" / "result.json").write_text(
        json.dumps({"steps": 3, "seconds": 1.5, "seeds": [{"f1": 0.5, "f2": 0.25}]})
    )


def other_words(two: Path) -> None:
    (two / "1-show.out").write_text(TABLE.replace("loss", "MLM loss"))


def other_number(two: Path) -> None:
    (two / "1-show.out").write_text(TABLE.replace("5.25", "5.5"))


CHANGES: list[tuple[Callable[[Path], object], dict[str, Any]]] = [
    (changed_tensor, {"run/model/model.safetensors:a": 0.25}),
    (changed_vector, {"vectors.npy:vectors": float("inf")}),
    (changed_figure, {"run/metrics.jsonl:valid.mlm_loss": pytest.approx(0.2)}),
    (
        missing_line,
        dict.fromkeys(
            [f"run/metrics.jsonl:{key}" for key in ("[]", "step", "seconds", "valid.mlm_loss")], float("inf")
        ),
    ),
    (moved_figure, dict.fromkeys([f"run/result.json:seeds{key}" for key in ("[]", ".f1", ".f2")], float("inf"))),
    (other_words, {"1-show.out:words": float("inf")}),
    (other_number, {"1-show.out:figures": 0.25}),
    (lambda two: (two / "train.bin").write_bytes(b"shards"), {"train.bin": float("inf")}),
    (lambda two: (two / "vectors.npy").unlink(), {"vectors.npy": float("inf")}),
    (lambda two: (two / "more.txt").touch(), {"more.txt": float("inf")}),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_a_change_is_named(
    comparer: ModuleType,
    folders: tuple[Path, Path],
    change: Callable[[Path], object],
    expected: dict[str, Any],
) -> None:
    change(folders[1])
    found = [each for some in comparer.compare_folders(*folders).values() for each in some]
    assert {each.name: each.size for each in found} == expected


def test_the_clock_makes_no_difference(comparer: ModuleType, folders: tuple[Path, Path]) -> None:
    two = folders[1]
    write_lines(two / "run" / "metrics.jsonl", [{**line, "seconds": 9.0} for line in LINES])
    result = json.loads((two / "run" / "result.json").read_text())
    (two / "run" / "result.json").write_text(json.dumps({**result, "seconds": 2.5}))
    (two / "1-show.out").write_text("│ loss    │ 5.25 │\n│ speed   │ 12,345 tokens/s, MFU 7% │\n")
    (two / "1-show.err").write_text("50%  step 1")
    compared = comparer.compare_folders(*folders)
    assert len(compared) == 6
    assert not any(compared.values())


def test_what_is_allowed_and_what_is_near(comparer: ModuleType) -> None:
    found = comparer.Difference("fast/run/result.json:valid.mlm_loss", "3 of 3 numbers", 1e-7)
    assert comparer.state(found, allow=[], within=0.0) == "DIFFERS"
    assert comparer.state(found, allow=[], within=1e-6) == "within"
    for allowed in ("fast/*", "fast/run/result.json", "*:valid.mlm_loss"):
        assert comparer.state(found, allow=[allowed], within=0.0) == "allowed"
    assert comparer.state(found, allow=["fast", "*:valid"], within=1e-8) == "DIFFERS"


def test_cases_go_on_from_cases_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    import cases

    before: set[str] = set()
    for case in cases.CASES:
        assert case.needs <= before, case.name
        assert case.name not in before
        before.add(case.name)
