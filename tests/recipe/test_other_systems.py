"""The package runs where the system lacks what Linux has, as macOS and Windows do: with all of that kind taken away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertwright import system
from bertwright.inference.batching import cpu_policy

ELSEWHERE = """
import os, signal, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ("resource", "fcntl"):
            raise ImportError(f"no module named {name} on this system")

sys.meta_path.insert(0, Absent())
for name in ("resource", "fcntl"):
    sys.modules.pop(name, None)
for name in ("sched_getaffinity", "pread", "pwrite", "killpg", "fork", "O_NOFOLLOW"):
    vars(os).pop(name, None)
del signal.SIGHUP
from bertwright.cli.main import main
for line in sys.stdin.read().splitlines():
    code = main(line.split())
    assert code == 0, (code, line)
assert not {"resource", "fcntl"} & set(sys.modules)
"""
COMMANDS = """
prepare texts.txt --out data --vocab-size 512 --language en
pretrain --data data --out run --recipe classic --size tiny --steps 1 --engine.compile false --engine.evaluation-rows 32
predict --model run/model --output answers.jsonl a[MASK]
finetune classify --model run/model --train train.tsv --dev dev.tsv --out tuned --epochs 1
predict --model tuned/model good
bench prepare texts.txt --tokenizer data/tokenizer
"""


def test_the_verbs_run_without_what_only_linux_has(tmp_path: Path) -> None:
    """One process for all; the number of threads is given as OpenMP allows, a level after the other."""
    texts = [" ".join(f"Town {index} has {line} rivers." for line in range(12)) for index in range(60)]
    (tmp_path / "texts.txt").write_text("\n\n".join(texts), encoding="utf-8")
    for name, count in (("train", 16), ("dev", 8)):
        rows = [f"town {index} is {word}\t{word}" for index in range(count) for word in ("good", "bad")]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["text\tlabel", *rows]), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=COMMANDS.strip(),
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "4,2"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "not known" in ran.stdout  # the memory of a child process
    assert (tmp_path / "answers.jsonl").is_file()


def test_a_user_without_a_name_has_a_folder_for_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container that was started with --user, the system knows the number alone."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    system.name_compiled_code_folder()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 4242")

    monkeypatch.setattr(system.getpass, "getuser", unknown)
    system.name_compiled_code_folder()
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).name == f"torchinductor_{os.getuid()}"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")


@pytest.mark.parametrize(
    ("given", "expected"), [("4,2", 4), (" 3 ", 3), ("", 5), ("0", 5), ("-1", 5), ("many", 5), (None, 5)]
)
def test_threads_that_openmp_is_told(given: str | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "usable_cores", lambda: 5)
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert cpu_policy().workers == expected
