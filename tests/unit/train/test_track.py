"""Trackers: their files hold what metrics.jsonl holds, also after a run was resumed; nothing leaves the machine."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bertwright.errors import UsageError
from bertwright.train.callbacks import track
from bertwright.train.callbacks.track import TrackCallback, flat, require_tracker, tracking

SETTINGS = {"size": "tiny", "optimizer": {"learning_rate": 0.5}}
LINES: list[dict[str, Any]] = [
    {"step": step, "loss": 5.0 - step / 4, "valid": {"mlm_loss": 4.0 - step / 8}, "samples": [{"text": f"é {step}"}]}
    for step in range(1, 7)
]


@dataclass
class Report:
    """What a callback is given, of which a tracker needs the notes alone."""

    notes: dict[str, Any] = field(default_factory=dict)


def write(name: Any, folder: Path, lines: list[dict[str, Any]]) -> None:
    """Write lines as a run does that begins, or goes on, and ends."""
    (callback,) = tracking(name, folder, SETTINGS)
    for line in lines:
        callback.on_step(Report({"line": line}))  # type: ignore[arg-type]
    callback.close()


def tensorboard_curve(folder: Path, name: str) -> dict[int, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert any("settings" in tag for tag in events.Tags()["tensors"])
    return {event.step: event.value for event in events.Scalars(name)}


def mlflow_curve(folder: Path, name: str) -> dict[int, float]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=(folder / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name(track.PROJECT).experiment_id])
    assert run.data.params["optimizer.learning_rate"] == "0.5"
    assert run.info.status == "FINISHED"
    return {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}


def records(log: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log behind a header of 7 bytes: what a .wandb file is."""
    place, begun = 7, b""
    while place + 7 <= len(log):
        left = 32768 - place % 32768
        length, kind = struct.unpack_from("<HB", log, place + 4) if left >= 7 else (0, 0)
        if kind == 0:
            place += left
            continue
        begun += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield begun
            begun = b""


def wandb_curve(folder: Path, name: str) -> dict[int, float]:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # waits for the process that writes the file
    found: dict[int, float] = {}
    ids = set()
    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        for data in records(file.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.run.run_id:
                ids.add(record.run.run_id)
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            if name in row:
                found[row["step"]] = row[name]
    assert len(ids) == 1
    return found


CURVES: dict[str, Callable[[Path, str], dict[int, float]]] = {
    "tensorboard": tensorboard_curve,
    "mlflow": mlflow_curve,
    "wandb": wandb_curve,
}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail where a host other than this one is looked up or called."""
    hosts: list[Any] = []

    def local(host: Any) -> bool:
        return host in (None, "", "localhost", "127.0.0.1", "::1")

    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connect_here(self: socket.socket, address: Any) -> None:
        hosts.extend([] if isinstance(address, str) or local(address[0]) else [address])
        connect(self, address)

    def look_up_here(host: Any, *others: Any, **named: Any) -> Any:
        hosts.extend([] if local(host) else [host])
        return look_up(host, *others, **named)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)
    yield
    assert hosts == []


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.filterwarnings("default")  # those of the packages themselves
@pytest.mark.usefixtures("no_network")
def test_curves_are_those_of_metrics_also_after_resuming(name: str, tmp_path: Path) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed; pip install 'bertwright[track]' brings it")
    lost = {**LINES[3], "loss": 99.0, "valid": {"mlm_loss": 99.0}}
    write(name, tmp_path, [*LINES[:3], lost])
    write(name, tmp_path, LINES[3:])
    for figure in ("loss", "valid/mlm_loss"):
        expected = {line["step"]: dict(flat(line))[figure] for line in LINES}
        assert CURVES[name](tmp_path, figure) == pytest.approx(expected)


def test_each_line_is_given_once_with_numbers_and_texts_apart() -> None:
    @dataclass
    class Kept:
        rows: list[tuple[Any, ...]] = field(default_factory=list)

        def log(self, step: int, numbers: Any, texts: Any) -> None:
            self.rows.append((step, numbers, texts))

        def close(self) -> None:
            self.rows.append(())

    kept = Kept()
    callback = TrackCallback(kept)
    for notes in ({}, {"line": LINES[0]}, {"line": LINES[0]}):
        callback.on_step(Report(notes))  # type: ignore[arg-type]
    callback.close()
    assert kept.rows == [(1, {"loss": 4.75, "valid/mlm_loss": 3.875}, {"samples": '[{"text": "é 1"}]'}), ()]


def test_a_missing_package_is_refused_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require_tracker(None)
    monkeypatch.setattr(track, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--track wandb.*pip install 'bertwright\[track\]'"):
        require_tracker("wandb")
