"""A call from Python leaves the process as it was, and works in a thread other than the main one too."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from bertwright.stopping import STOPPING
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.finetune import finetune
from bertwright.verbs.predict import predict
from bertwright.verbs.pretrain import pretrain

SETTINGS: dict[str, Any] = {
    "size": "tiny",
    "schedule": {"steps": 2, "phases": [{"length": 32, "rows": 8, "share": 1.0}]},
    "engine": {"compile": False, "precision": "fp32", "evaluation_rows": 32},
}
LIBRARIES = ("KMP_", "TORCHINDUCTOR_")
"""Variables that scikit-learn and torch set for themselves when they are imported."""


def state() -> dict[str, Any]:
    """Return what of a process others rely on."""
    return {
        "signal handlers": [signal.getsignal(number) for number in STOPPING],
        "streams": [sys.stdout, sys.stderr, sys.stdin],
        "errors": [getattr(stream, "errors", None) for stream in (sys.stdout, sys.stderr)],
        "environment": {name: value for name, value in os.environ.items() if not name.startswith(LIBRARIES)},
        "folder": os.getcwd(),
        "logging": [logging.getLogger().level, list(logging.getLogger().handlers)],
        "threads of torch": torch.get_num_threads(),
        "random state": torch.get_rng_state().tolist(),
        "type of numbers": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "turns of threads": sys.getswitchinterval(),
        "threads": {thread.name for thread in threading.enumerate()},
    }


def test_calls_in_a_thread_leave_the_process_as_it_was(data: Path, tmp_path: Path) -> None:
    rows = [f"the {word} cat number {index} sees it\t{word}" for index in range(8) for word in ("good", "bad")]
    (tmp_path / "rows.tsv").write_text("\n".join(["text\tlabel", *rows]), encoding="utf-8")
    done: list[object] = []

    def work() -> None:
        pretrain(data, tmp_path / "run", recipe="classic", settings=SETTINGS)
        model = tmp_path / "run" / "model"
        done.append(evaluate("mlm", model, data, num_rows=32))
        done.append(predict(model, "The [MASK] sees the owl."))
        file = tmp_path / "rows.tsv"
        finetune("classify", model, file, file, tmp_path / "tuned", settings={"schedule": {"epochs": 1}})
        done.append(predict(tmp_path / "tuned" / "model", "a good cat"))

    torch.manual_seed(11)
    before = state()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(done) == 3
    assert state() == before
