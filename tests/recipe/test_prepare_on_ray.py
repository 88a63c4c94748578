"""The Ray engine gives the bytes of the local one, also where a worker is killed on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertwright.verbs.prepare import prepare

pytestmark = pytest.mark.slow

pytest.importorskip("ray", reason="Ray is not installed: pip install 'bertwright[cluster]'")

PROGRAM = """
import os, signal, sys
from pathlib import Path
import ray
from bertwright.corpus import pipeline
from bertwright.corpus.readers import documents
from bertwright.verbs.prepare import prepare

in_order = pipeline.in_order

def own_id():
    return os.getpid()

def killing(items, start, *, ahead):
    for number, pair in enumerate(in_order(items, start, ahead=ahead)):
        if number == 5:
            workers = set(ray.get([ray.remote(own_id).remote() for _ in range(9)]))
            os.kill(min(workers), signal.SIGKILL)
            print("killed one of", len(workers))
        yield pair

documents.BATCH_BYTES = 5_000
ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="error")
pipeline.in_order = killing
prepare([sys.argv[1]], Path(sys.argv[2]), vocab_size=512, near_duplicates=0.8, shard_text=30_000, engine="ray")
"""


def _files(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "report.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_bytes_of_the_local_engine_though_a_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.jsonl"
    documents = [f"Document {i} has sentence {i * 7}. " + f"And a word{i % 50} more. " * (i % 9) for i in range(1500)]
    text.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    words = [sys.executable, str(program), str(text), str(tmp_path / "ray")]
    patient = {**os.environ, "RAY_raylet_start_wait_time_s": "300"}  # 60 by default, too short on a busy machine
    ran = subprocess.run(words, capture_output=True, text=True, env=patient)
    assert ran.returncode == 0, ran.stderr
    assert "killed one of" in ran.stdout
    monkeypatch.setattr("bertwright.corpus.readers.documents.BATCH_BYTES", 5_000)
    prepare([text], tmp_path / "local", vocab_size=512, near_duplicates=0.8, shard_text=30_000)
    assert _files(tmp_path / "ray") == _files(tmp_path / "local")
    assert len(list((tmp_path / "local").glob("train-*.arrow"))) > 2
