"""Turns a commit into folders of results: checks its tree out, and runs the commands of cases there, one by one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cases import Case

FORKER = Path(__file__).with_name("forker.py")
RECORD = "commands.json"
"""In the folder of a case: its commands, each with its exit code."""
WIDE = "1000"
"""Columns of the terminal that tables are made for: no line is wrapped, however long a path is."""


def check_out(repository: Path, commit: str, folder: Path) -> Path:
    """Return the src folder of a commit, checked out into `folder`; or of a tree, where `commit` is its folder."""
    if (Path(commit) / "src" / "bertwright").is_dir():
        return Path(commit).resolve() / "src"
    hash_of = git("-C", repository, "rev-parse", "--verify", f"{commit}^{{commit}}")
    git("clone", "--quiet", "--shared", "--no-checkout", repository, folder)
    git("-C", folder, "checkout", "--quiet", "--detach", hash_of)
    return folder / "src"


def git(*words: str | Path) -> str:
    """Return what git prints; raises SystemExit with what it says of its failure."""
    ran = subprocess.run(["git", *map(str, words)], capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(ran.stderr.strip())
    return ran.stdout.strip()


class Side:
    """One of the two commits: its code, and where its cases run.

    `work` is a folder of both sides: `work`/in are the inputs, `work`/NAME/CASE is what a case leaves.
    """

    def __init__(self, name: str, src: Path, work: Path, *, steps: int) -> None:
        """Start the process that commands are forked from; raises SystemExit where other code would run."""
        self.name, self.work, self.steps = name, work, steps
        self.environment = {
            **{"OMP_NUM_THREADS": "1", **os.environ},
            "PYTHONPATH": str(src),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": WIDE,
            "NO_COLOR": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(work / f"compiled-{name}"),
        }
        where = [sys.executable, "-c", "import bertwright; print(bertwright.__file__)"]
        found = subprocess.run(where, env=self.environment, cwd=work, capture_output=True, text=True)
        if not Path(found.stdout.strip() or "/").is_relative_to(src):
            raise SystemExit(f"bertwright of {src} is not what Python imports: {found.stdout or found.stderr}")
        words, pipe = [sys.executable, str(FORKER)], subprocess.PIPE
        self.forker = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=self.environment, cwd=work)

    def close(self) -> None:
        """End that process."""
        self.forker.kill()
        self.forker.communicate()

    def folder(self, case: Case) -> Path:
        """Return the folder of a case."""
        return self.work / self.name / case.name

    def run(self, case: Case) -> None:
        """Run the commands of a case; the first that fails is the last."""
        folder, record = self.folder(case), []
        folder.mkdir(parents=True)
        for number, command in enumerate(case.commands, 1):
            placed = re.sub(r"@(in|one)\b", r"../../\1", command.replace("@steps", str(self.steps)))
            code = self._run(folder, shlex.split(placed), number)
            record.append({"command": command, "exit": code})
            if code:
                break
        (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")

    def _run(self, folder: Path, words: list[str], number: int) -> int:
        """Run a command, or what stands for one (see cases.py), and return its exit code."""
        how, *rest = words
        if how == "copy":
            shutil.copytree(folder / rest[0], folder / rest[1])
            return 0
        if how == "delete":
            (folder / rest[0]).unlink()
            return 0
        first = {"fresh": 0, "torchrun": 1, "stop": 1}.get(how)
        if first is None:
            return self._forked(folder, words, *outputs(folder, words, number))
        called = rest[first:]
        processes = ["torch.distributed.run", "--standalone", "--nproc-per-node", rest[0], "-m"]
        python = [sys.executable, "-m", *(processes if how == "torchrun" else []), "bertwright"]
        out, err = outputs(folder, called, number)
        with out.open("w") as given, err.open("w") as predicted:
            process = subprocess.Popen(
                [*python, *called],
                cwd=folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=given,
                stderr=predicted,
            )
            return kill_at(process, folder, rest[0]) if how == "stop" else process.wait()

    def _forked(self, folder: Path, words: list[str], out: Path, err: Path) -> int:
        output = {"words": words, "folder": str(folder), "stdout": str(out), "stderr": str(err)}
        assert self.forker.stdin is not None
        assert self.forker.stdout is not None
        print(json.dumps(output), file=self.forker.stdin, flush=True)
        if not (answer := self.forker.stdout.readline()):
            raise SystemExit(f"the process that commands are forked from has ended ({self.forker.wait()}); start again")
        return int(answer)


def outputs(folder: Path, words: list[str], number: int) -> tuple[Path, Path]:
    """Return the files for what the n-th command of a case prints, and for what it says while it works."""
    return folder / f"{number}-{words[0]}.out", folder / f"{number}-{words[0]}.err"


def kill_at(process: subprocess.Popen[Any], folder: Path, pattern: str) -> int:
    """Kill a process as soon as there is such a path in `folder`; return 0, or not 0 where it ended before."""
    while process.poll() is None:
        if any(folder.glob(pattern)):
            process.kill()
            process.wait()
            return 0
        time.sleep(0.001)
    return process.returncode or 1


def run_both(one: Side, two: Side, cases: Sequence[Case], compared: Sequence[Case]) -> Iterator[Case]:
    """Run cases under both commits at once, in their order; yield each when both have run it.

    The second begins a case when the first has made all that it reads, and runs none but those `compared`.
    """
    pools = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    made: dict[str, Future[None]] = {case.name: pools[0].submit(one.run, case) for case in cases}

    def follow(case: Case) -> None:
        for name in case.needs:
            made[name].result()
        two.run(case)

    followed = [(case, pools[1].submit(follow, case)) for case in compared]
    try:
        for case, future in followed:
            made[case.name].result()
            future.result()
            yield case
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
