"""On a CUDA device a run learns, resumes, and gives a model whose answers are those of the same model on the CPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertwright.device import on_device
from bertwright.errors import OutOfMemoryError
from bertwright.nested import merge, read_toml
from bertwright.train.setup import step_parts
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.pretrain import pretrain

pytestmark = pytest.mark.gpu
SMALL: dict[str, Any] = {
    "size": "tiny",
    "schedule": {"steps": 40, "phases": [{"length": 32, "rows": 8, "share": 1.0}]},
    "engine": {"compile": False, "precision": "fp32", "log_every": 5, "evaluations": 2, "evaluation_rows": 32},
}


@pytest.mark.parametrize("recipe", ["classic", "fast"])
def test_a_run_learns_and_its_model_answers_as_on_the_cpu(data: Path, tmp_path: Path, recipe: str) -> None:
    with on_device("cuda"):
        figures = pretrain(data, tmp_path / "run", recipe=recipe, settings=SMALL)
        on_gpu = evaluate("mlm", tmp_path / "run" / "model", data)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert figures["valid"]["mlm_loss"] < json.loads(lines[0])["mlm_loss"]
    with on_device("cpu"):
        on_cpu = evaluate("mlm", tmp_path / "run" / "model", data)
    assert on_gpu["mlm_loss"] == pytest.approx(on_cpu["mlm_loss"], abs=1e-2)


def test_a_resumed_run_comes_close_to_one_never_stopped(data: Path, tmp_path: Path) -> None:
    """Kernels of some GPUs add in any order, so weights are compared by their distance, not bit for bit."""
    settings = {**SMALL, "engine": {**SMALL["engine"], "checkpoint_steps": 20}}
    later = shutil.ignore_patterns("step-40", "model", "result.json", "report.html", ".lock")
    with on_device("cuda"):
        pretrain(data, tmp_path / "whole", settings=settings)
        shutil.copytree(tmp_path / "whole", tmp_path / "stopped", ignore=later)
        pretrain(data, tmp_path / "stopped", settings=settings, resume=True)
    whole, stopped = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    for name, tensor in whole.items():
        torch.testing.assert_close(stopped[name], tensor, rtol=1e-3, atol=1e-3, msg=name)


def test_a_step_too_large_is_refused_and_auto_computes_it_in_parts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 60% of the memory that a step takes: named, and then trained to the same losses."""
    monkeypatch.setattr(step_parts, "SPARE", 0.0)
    phases = {"phases": [{"length": 32, "rows": 1024, "share": 1.0}], "steps": 8}
    settings = merge(SMALL, {"schedule": phases, "model": {"dropout": 0.0, "attention_dropout": 0.0}})
    with on_device("cuda"):
        torch.cuda.reset_peak_memory_stats()
        whole = pretrain(data, tmp_path / "whole", recipe="classic", settings=settings)
        used, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.6 * used / total)
        try:
            with pytest.raises(OutOfMemoryError, match=r"1024 rows of 32.*--batch-size auto"):
                pretrain(data, tmp_path / "refused", recipe="classic", settings=settings)
            parts = pretrain(data, tmp_path / "auto", recipe="classic", batch_size="auto", settings=settings)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert read_toml(tmp_path / "auto" / "config.toml")["engine"]["parts"] > 1
    assert parts["valid"]["mlm_loss"] == pytest.approx(whole["valid"]["mlm_loss"], abs=1e-3)
