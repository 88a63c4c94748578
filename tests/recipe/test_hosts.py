"""Two hosts in network namespaces of the test's own: one is cut off mid-run, the other goes on from the checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain

pytestmark = pytest.mark.slow

NAMES = [f"bertwright-{os.getpid()}-{host}" for host in "ab"]
ADDRESSES = ["10.213.77.1", "10.213.77.2"]
STEPS = 12


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Make two network namespaces with a cable between them, or skip where that is not allowed."""
    if shutil.which("ip") is None:
        pytest.skip("there is no command ip to make network namespaces with")
    try:
        for name in NAMES:
            ip("netns", "add", name)
        ends = [f"bw{os.getpid()}{host}" for host in "ab"]
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(NAMES, ends, ADDRESSES, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "link", "set", end, "name", "eth0")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield NAMES
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces can be made here ({error})")
    finally:
        for name in NAMES:
            held = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True).stdout
            for number in held.split():
                os.kill(int(number), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def start(host: int, log: Path, *call: str) -> subprocess.Popen[bytes]:
    """Start torchrun on a host, whose processes meet at the first one's address; they go on alone if they must."""
    launch = [
        *("--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=3", "--rdzv-backend=c10d", "--rdzv-id=two-hosts"),
        f"--rdzv-endpoint={ADDRESSES[0]}:29400",
        f"--local-addr={ADDRESSES[host]}",
        f"--rdzv-conf=is_host={1 - host},last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=3",
    ]
    inside = ["ip", "netns", "exec", NAMES[host], sys.executable, "-m", "torch.distributed.run", *launch]
    with log.open("wb") as file:
        return subprocess.Popen(
            [*inside, "-m", "bertwright", *call],
            stderr=file,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"},
        )


def losses(run: Path) -> list[float]:
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return [line["loss"] for line in lines]


def test_a_host_cut_off_is_done_without(tmp_path: Path, hosts: list[str]) -> None:
    """The cable of the second host is pulled after step 4; its process says nothing any more, and closes nothing."""
    text = "\n\n".join(" ".join(f"Line {line} of text {n} is plain." for line in range(20)) for n in range(90))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    prepare([str(tmp_path / "text.txt")], tmp_path / "data", vocab_size=512, valid_fraction=0.1)
    settings = {"size": "tiny", "schedule": {"steps": STEPS, "phases": [{"length": 128, "rows": 32, "share": 1.0}]}}
    engine = {"compile": False, "precision": "fp32", "log_every": 1, "evaluations": 1, "timeout": 4}
    # Words started from their neighbours would differ: in so plain a text, rounding decides between equal directions.
    settings |= {"model": {"init": "noise"}, "engine": engine | {"evaluation_rows": 32, "checkpoint_steps": 3}}
    pretrain(tmp_path / "data", tmp_path / "one", recipe="fast", settings=settings)
    shutil.copy(tmp_path / "one" / "config.toml", tmp_path / "same.toml")
    run = tmp_path / "two"
    call = ["pretrain", "--data", str(tmp_path / "data"), "--out", str(run), "--recipe", str(tmp_path / "same.toml")]
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    first, second = (start(host, logs[host], *call) for host in range(2))
    try:
        while not ((run / "checkpoints" / "step-3").exists() and (run / "metrics.jsonl").read_text().count("\n") > 3):
            assert first.poll() is None, logs[0].read_text()
            time.sleep(0.005)
        ip("-n", hosts[1], "link", "set", "eth0", "down")
        assert first.wait(timeout=200) == 0, logs[0].read_text()
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    output = logs[0].read_text()
    assert "2 processes" in output
    assert output.rindex("going on from step") > output.rindex("2 processes")
    assert json.loads((run / "manifest.json").read_text(encoding="utf-8"))["processes"] == 1
    assert losses(run) == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    weights = load_file(tmp_path / "one" / "model" / "model.safetensors")
    for name, tensor in load_file(run / "model" / "model.safetensors").items():
        assert (tensor - weights[name]).abs().max() < 1e-5
