"""Compiles the step of a run in a process of its own, beside the run, which then reads the finished code in seconds.

What is handed over is the compiler's own store of code on disk (TORCHINDUCTOR_CACHE_DIR): the other process builds the
same step from the same settings, runs it once for every phase, and ends. A file there, named after all that the code
depends on, says that the code of such a step is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch

from bertwright.compiler import kind_of_cpu
from bertwright.data.pretraining.dataset import open_dataset
from bertwright.device import versions
from bertwright.errors import BertwrightError
from bertwright.train.setup.assemble import build, compiled_loss
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.setup.pretrain_loader import PretrainLoader
from bertwright.train.step import Engine

MODULE = "bertwright.train.setup.compile_ahead"


class BackgroundCompiler:
    """Another process that compiles the step of a run; it ends with the run, however that ends."""

    def __init__(self, data: Path, config: PretrainConfig, engine: Engine) -> None:
        """Start the process. Its number of threads is the run's: the code is made for one."""
        self.began = time.perf_counter()
        self.seconds: float | None = None
        self.messages: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        package = str(Path(__file__).parents[3])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],  # -P: no module of the current folder stands in for one of ours
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.messages,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "OMP_NUM_THREADS": str(torch.get_num_threads()),
            },
            text=True,
            start_new_session=True,  # Ctrl-C is for the run, which then ends this process
        )
        assert self.process.stdin is not None
        settings = config.engine.model_copy(update={"compile": True, "precision": engine.precision})
        config = config.model_copy(update={"engine": settings})
        # The pipe stays open: the process ends when it closes, as it does when the run dies.
        self.process.stdin.write(json.dumps({"data": str(data), "config": config.model_dump(mode="json")}) + "\n")
        self.process.stdin.flush()

    @property
    def elapsed(self) -> float:
        """Seconds since the start, or those it took."""
        return time.perf_counter() - self.began if self.seconds is None else self.seconds

    def working(self) -> bool:
        """Say whether it has not ended yet."""
        if self.process.poll() is None:
            return True
        if self.seconds is None:
            self.seconds = time.perf_counter() - self.began
        return False

    def failure(self) -> str | None:
        """Return why there is no code, of a process that has ended; None where there is."""
        if self.process.returncode == 0:
            return None
        self.messages.seek(0)
        lines = [line.strip() for line in self.messages if line.strip()]
        return lines[-1][:200] if lines else f"it ended with exit code {self.process.returncode}"

    def stop(self) -> None:
        """End the process and the compilers it has started, where they still work."""
        if self.process.poll() is None:
            _end_all(self.process.pid)
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.messages.close()


def is_kept(config: PretrainConfig, loader: PretrainLoader, engine: Engine) -> bool:
    """Say whether the code of this step was compiled before and is still there."""
    return _mark(config, loader, engine).is_file()


def mark_kept(config: PretrainConfig, loader: PretrainLoader, engine: Engine) -> None:
    """Write down that the code of this step is there; it is a hint, left out where nothing can be written."""
    with suppress(OSError):
        _mark(config, loader, engine).touch()


def _mark(config: PretrainConfig, loader: PretrainLoader, engine: Engine) -> Path:
    """Return the file that stands for the code of a step, named after all that the code depends on."""
    # Imported here: the compiler takes a second, which a run that does not compile need not wait for.
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    depends: dict[str, Any] = {
        "versions": versions(),
        "source": [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(_sources())],
        "processor": [kind_of_cpu(), torch.get_num_threads(), engine.device.type],
        "shape": repr(loader.shape),
        "precision": engine.precision,
        "objective": config.objective.model_dump(mode="json"),
        "phases": [
            (phase.length, phase.rows // config.engine.accumulation, phase.causal) for phase in config.schedule.phases
        ],
        "parts": config.engine.parts,
        "packed": config.data.pack,
        "autotune": config.engine.autotune,
    }
    name = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:32]
    return Path(cache_dir()) / f"bertwright-{name}"


def _sources() -> list[Path]:
    """Return the files of bertwright that the code of a step is made from."""
    package = Path(__file__).parents[2]
    folders = ("model/**", "objectives", "train", "train/optim")
    return [package / "device.py", *(file for folder in folders for file in package.glob(f"{folder}/*.py"))]


def main() -> int:
    """Compile the step that a line of standard input describes; return the exit code."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    try:
        config = PretrainConfig.model_validate(order["config"])
        dataset = open_dataset(config.folders(Path(order["data"])), mixture=config.data.shares)
        state, loader, objective, engine = build(dataset, config, fresh=False)
    except BertwrightError as error:
        print(error, file=sys.stderr)
        return 1
    if compiled_loss(state, loader, objective, engine, autotune=config.engine.autotune) is None:
        return 1
    mark_kept(config, loader, engine)
    return 0


def _end_with_the_run() -> None:
    """End this process and its compilers when the run has closed its end of the pipe."""
    sys.stdin.read()
    _end_all(os.getpid())


def _end_all(process: int) -> None:
    """End a process, and on systems that have groups of processes what it has started: g++ then removes half a file."""
    if sys.platform == "win32":
        os.kill(process, signal.SIGTERM)
    else:
        os.killpg(process, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
