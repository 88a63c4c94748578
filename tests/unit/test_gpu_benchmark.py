"""The driver of benchmarks/gpu.py: a part that fails or hangs costs its own line alone, and the minutes are kept."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
CELL = {"what": "steps", "ours": 1234.5, "peer": 400.0, "times": 3.09, "unit": "tokens/s", "good": True}
SECOND = 60.0


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The driver."""
    monkeypatch.syspath_prepend(FOLDER)
    import gpu

    return gpu


def stage(gpu: ModuleType, name: str, code: str, out: Path, **fields: Any) -> Any:
    """A part that runs some Python, which knows where its file is."""
    file = str(out / "parts" / f"{name}.json")
    command = (sys.executable, "-c", f"import json, sys, time\nfile = {file!r}\n{code}")
    return gpu.Stage(name, command=command, **{"least": 0.0, "limit": 20.0, **fields})


def write_cell(then: str = "") -> str:
    return f"open(file, 'w').write(json.dumps({{'cells': [{CELL!r}]}}))\n{then}"


def run(gpu: ModuleType, stages: list[Any], out: Path, *, seconds: float = 60.0, toy: bool = True) -> dict[str, Any]:
    (out / "parts").mkdir(parents=True)
    return dict(gpu.run_stages(stages, out, minutes=seconds / SECOND, toy=toy, told=lambda outcomes: None))


def test_a_part_that_fails_or_hangs_leaves_the_others_alone(gpu: ModuleType, tmp_path: Path) -> None:
    child = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    hangs = write_cell(f"import subprocess\nsubprocess.Popen({child}).wait()")
    stages = [
        stage(gpu, "fails", write_cell("raise ValueError('no such thing')"), tmp_path),
        stage(gpu, "hangs", hangs, tmp_path, limit=4.0 / gpu.SLACK),
        stage(gpu, "works", write_cell(), tmp_path),
    ]
    began = time.monotonic()
    outcomes = run(gpu, stages, tmp_path)
    assert time.monotonic() - began < 30
    assert {name: one.state for name, one in outcomes.items()} == {
        "fails": "failed", "hangs": "out of time", "works": "done",
    }  # fmt: skip
    table = gpu.report(tmp_path, outcomes, began=began, toy=False)
    assert table == (tmp_path / "table.txt").read_text(encoding="utf-8")
    assert "ValueError: no such thing" in table
    lines = [line.split() for line in table.splitlines()]
    assert [line[0] for line in lines if line[1:2] == ["steps"]] == ["fails", "hangs", "works"]  # what each had found
    assert all({"1,234", "3.09", "ok"} <= set(line) for line in lines if line[1:2] == ["steps"])
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["parts"]
    assert [found[name]["state"] for name in found] == ["failed", "out of time", "done"]
    assert found["hangs"]["cells"] == [CELL]


def test_parts_that_the_minutes_have_no_room_for_are_left_out(gpu: ModuleType, tmp_path: Path) -> None:
    stages = [
        stage(gpu, "first", "time.sleep(30)", tmp_path),
        stage(gpu, "second", write_cell(), tmp_path, least=5.0),
        stage(gpu, "third", write_cell(), tmp_path, least=50.0),
    ]
    began = time.monotonic()
    outcomes = run(gpu, stages, tmp_path, seconds=2.0)
    assert time.monotonic() - began < 20
    assert [one.state for one in outcomes.values()] == ["out of time", "left out", "left out"]
    assert "it needs 50" in outcomes["third"].why


def test_without_data_the_parts_that_need_them_are_left_out(gpu: ModuleType, tmp_path: Path) -> None:
    stages = [stage(gpu, "data", "raise SystemExit(3)", tmp_path), stage(gpu, "parity", write_cell(), tmp_path)]
    assert [one.state for one in run(gpu, stages, tmp_path).values()] == ["failed", "left out"]


def test_parts_that_measure_no_time_run_together_on_a_card(gpu: ModuleType, tmp_path: Path) -> None:
    """Each waits for the file of the other."""
    (tmp_path / "parts").mkdir()
    wait = "import pathlib\nend = time.time() + 15\nwhile not pathlib.Path({!r}).exists():\n  assert time.time() < end"
    names = {"one": "two", "two": "one"}
    stages = [
        stage(gpu, name, write_cell(wait.format(str(tmp_path / "parts" / f"{other}.json"))), tmp_path, together=True)
        for name, other in names.items()
    ]
    outcomes = gpu.run_stages(stages, tmp_path, minutes=1.0, toy=False, told=lambda outcomes: None)
    assert [one.state for one in outcomes.values()] == ["done", "done"]


def test_every_part_has_its_function(gpu: ModuleType) -> None:
    for one in (*gpu.STAGES, *gpu.LONGER):
        module, _, function = one.work.partition(":")
        text = (FOLDER / "gpu_parts" / f"{module}.py").read_text(encoding="utf-8")
        assert f"def {function}(part: Part" in text, one.name
    names = [one.name for one in (*gpu.STAGES, *gpu.LONGER)]
    assert len(set(names)) == len(names)


def test_cards_are_found_in_the_table(gpu: ModuleType) -> None:
    from gpu_parts.card import known_as, peak_of

    names = {
        "NVIDIA H200": "h200", "NVIDIA A100-SXM4-40GB": "a100-40gb", "NVIDIA A100-SXM4-80GB": "a100", "Tesla T4": "t4",
        "NVIDIA H100 PCIe": "h100-pcie", "NVIDIA H100 80GB HBM3": "h100", "NVIDIA GeForce RTX 4090": "rtx4090",
        "NVIDIA L4": "l4", "NVIDIA L40": "", "Quadro P400": "",
    }  # fmt: skip
    assert {name: known_as(name) for name in names} == names
    peaks = [
        peak_of(*card)[0] for card in (("h200", "bf16"), ("t4", "fp16"), ("t4", "fp32"), ("h200", "fp32"), ("", ""))
    ]
    assert peaks == [989.4e12, 65e12, None, None, None]


SIDE = """
import json, sys, time
print("not of the protocol")
print(json.dumps({"ready": 0.5}), flush=True)
done = 0
while sys.stdin.readline().strip() == "go":
    done += 1
    print(json.dumps({"seconds": 2.0, "tokens": 100.0 * done, "memory": 7}), flush=True)
"""


def test_sides_take_turns_and_one_that_fails_or_hangs_is_out(gpu: ModuleType) -> None:
    from turns import take_turns

    codes = {
        "works": SIDE,
        "fails": "raise ValueError('no such model')",
        "stops": SIDE.replace("done += 1", "done += 1; assert done < 2, 'worn out'"),
        "hangs": "import time; time.sleep(60)",
    }
    sides = take_turns({name: ["-c", code] for name, code in codes.items()}, 3, seconds=8.0)
    assert [turn["tokens"] for turn in sides["works"].turns] == [100.0, 200.0, 300.0]
    assert (sides["works"].rate("tokens"), sides["works"].memory, sides["works"].ready) == (100.0, 7, 0.5)
    assert len(sides["stops"].turns) == 1
    assert "worn out" in str(sides["stops"].failure)
    assert "no such model" in str(sides["fails"].failure)
    assert sides["hangs"].failure is not None
    assert sides["fails"].rate("tokens") is None
    assert all(side.process.poll() is not None for side in sides.values())
