"""`bertwright serve` as a process: ready when it says so, stopped by a signal when all is answered, started again."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch

from bertwright.errors import ModelError, UsageError
from bertwright.hub.sentence_folder import save_sentence_model
from bertwright.model.build import build_encoder, named_size
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.verbs.serve import serve

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("vectors")
    words = tokenizers.models.WordPiece({name: place for place, name in enumerate(NAMES)}, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(words)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.save(str(home / "tokenizer.json"))
    torch.manual_seed(0)
    shape = {"vocab_size": len(NAMES), "layers": 2, "hidden_size": 32, "heads": 2, "max_positions": 512}
    model = SentenceEncoder(build_encoder(named_size("tiny", **shape)).eval(), pooling="mean", normalize=True)
    save_sentence_model(model, home / "tokenizer.json", home / "tiny", max_length=512)
    return home / "tiny"


@contextmanager
def served(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server and yield its process and address."""
    words = [sys.executable, "-m", "bertwright", "serve", "--model", str(folder), "--json", *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            found = re.search(r"http://\S+", line)
            assert found, line + process.stderr.read()
            yield process, found[0]
        finally:
            process.kill()


def ask(address: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        raw = response.read()
    return json.loads(raw) if raw else None


def health(address: str) -> tuple[int, bytes]:
    """Return status and body of /health."""
    try:
        with urllib.request.urlopen(address + "/health", timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def wait_until_ready(address: str) -> None:
    """Wait for /health, which may only answer 503 before it answers 200."""
    for _ in range(600):
        status, body = health(address)
        if status == 200:
            return
        assert (status, json.loads(body)["error_type"]) == (503, "Unhealthy")
        time.sleep(0.05)
    raise AssertionError("never ready")


@pytest.mark.slow
def test_killed_started_again_and_stopped_when_all_is_answered(folder: Path) -> None:
    with served(folder, "--port", "0") as (process, address):
        wait_until_ready(address)
        (before,) = ask(address, "/embed", {"inputs": "the cat sat"})
        process.kill()
        process.wait(30)
        with pytest.raises(urllib.error.URLError):
            health(address)
    with served(folder, "--port", address.rpartition(":")[2]) as (process, again):
        wait_until_ready(again)
        assert again == address
        (after,) = ask(again, "/embed", {"inputs": "the cat sat"})
        assert after == pytest.approx(before, abs=1e-6)
        long = {"inputs": ["the cat sat ." * 100] * 32}
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(ask, again, "/embed", long) for _ in range(8)]
            came = re.compile(r'te_request_count{method="batch"} 8')
            while not came.search(urllib.request.urlopen(again + "/metrics").read().decode()):
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert [len(one.result()) for one in waiting] == [32] * 8
        assert process.wait(30) == 0
        assert process.stdout is not None
        figures = json.loads(process.stdout.read())
        assert (figures["answered"], figures["refused"]) == (9, 0)


def test_what_cannot_be_served_is_said_at_once(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none"):
        serve(str(tmp_path / "none"), port=0)
    with pytest.raises(UsageError, match="tiny"):
        serve([str(folder), f"tiny={folder}"], port=0)
    with pytest.raises(UsageError, match=r"tiny.*RUN"):
        serve(str(folder), watch=[folder], port=0)
    with pytest.raises(UsageError, match="--host"):
        serve(str(folder), host="192.0.2.1", port=0)
