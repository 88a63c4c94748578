"""A server lets in whom it should, refuses what is too much, and forgets those who hang up."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertwright.errors import UsageError
from bertwright.server.endpoints.call import Limits
from bertwright.server.running import LOOPBACK, listening, named_folders, read_key

TEXT = {"inputs": "the cat"}


@pytest.fixture(scope="module")
def guarded(folders: dict[str, Path], serve_folders: Callable[..., Any]) -> Any:
    """A server of vectors with a key, host names and small limits."""
    limits = Limits(concurrent=3, batch=2, body_bytes=300, seconds=1.5)
    return serve_folders({"vectors": folders["vectors"]}, limits=limits, key="secret", hosts=LOOPBACK)


KEY = {"authorization": "Bearer secret"}


def test_only_who_has_the_key_is_answered(guarded: Any) -> None:
    assert guarded.post("/embed", TEXT, **KEY).status == 200
    basic = base64.b64encode(b"me:secret").decode()
    assert guarded.get("/info", authorization=f"Basic {basic}").status == 200
    for wrong in ("Bearer", "Bearer secre", "Bearer secret2", "secret", "Basic secret", "Basic ???"):
        found = guarded.post("/embed", TEXT, authorization=wrong)
        assert (found.status, found.headers["www-authenticate"]) == (401, "Bearer")
    assert guarded.get("/").headers["www-authenticate"].startswith("Basic")
    assert guarded.get("/info").status == 401
    assert [guarded.get(path).status for path in ("/health", "/metrics", "/docs", "/openapi.json")] == [200] * 4
    assert "secret" not in guarded.get("/openapi.json", **KEY).json.__repr__()


def test_other_names_of_this_machine_are_refused(guarded: Any) -> None:
    for host, status in (("localhost:80", 200), ("127.0.0.1", 200), ("[::1]:8080", 200), ("evil.example", 403)):
        assert guarded.get("/health", host=host).status == status, host


def test_too_much_is_refused(guarded: Any) -> None:
    assert guarded.post("/embed", {"inputs": ["a"] * 3}, **KEY).status == 413
    assert guarded.post("/embed", {"inputs": "a" * 300}, **KEY).status == 413
    assert guarded.request("POST", "/embed", b"{}", {"content-type": "text/plain", **KEY}).status == 415
    assert guarded.get("/embed", **KEY).status == 405
    chunked = (
        b"POST /embed HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\n" + b"100\r\n" + b" " * 256 + b"\r\n" + b"100\r\n" + b" " * 256 + b"\r\n"
    )
    with socket.create_connection((guarded.host, guarded.port), timeout=20) as sock:
        sock.sendall(chunked)
        assert sock.recv(4096).startswith(b"HTTP/1.1 413")


def test_who_sends_too_slowly_is_refused(guarded: Any) -> None:
    with socket.create_connection((guarded.host, guarded.port), timeout=20) as sock:
        sock.sendall(
            b"POST /embed HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret\r\n"
            b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
        )
        assert sock.recv(4096).startswith(b"HTTP/1.1 503")


class Held:
    """Holds the answers of a lane until it is let go."""

    def __init__(self, served: Any, lane: str) -> None:
        self.gate, self.rows = threading.Event(), 0
        self.lane = served.service.first.lanes[lane]
        self.answers = self.lane.answer

    def __enter__(self) -> Held:
        def answer(rows: Any) -> Any:
            self.gate.wait(20)
            self.rows += len(rows)
            return self.answers(rows)

        self.lane.answer = answer
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        del self.lane.answer


def raw_request(served: Any) -> socket.socket:
    """Send a request, and do not wait for its answer."""
    body = b'{"inputs": "the cat"}'
    head = (
        "POST /embed HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret\r\ncontent-type: application/json\r\n"
    )
    sock = socket.create_connection((served.host, served.port), timeout=20)
    sock.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return sock


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_more_than_may_wait_get_429_and_the_late_get_503(guarded: Any) -> None:
    batcher = guarded.service.batcher
    with Held(guarded, "embed"):
        socks = [raw_request(guarded) for _ in range(3)]
        until(lambda: batcher._jobs == 3)
        found = guarded.post("/embed", TEXT, **KEY)
        assert (found.status, found.json["error_type"]) == (429, "Overloaded")
        for sock in socks:
            assert sock.recv(4096).startswith(b"HTTP/1.1 503")
            sock.close()
    assert guarded.post("/embed", TEXT, **KEY).status == 200


def test_clients_that_hang_up_are_dropped(guarded: Any) -> None:
    batcher = guarded.service.batcher
    with Held(guarded, "embed") as held:
        socks = [raw_request(guarded) for _ in range(3)]
        until(lambda: batcher._jobs == 3)
        for sock in socks[2:]:
            sock.close()
        until(lambda: batcher._jobs == 2)
        held.gate.set()
        for sock in socks[:2]:
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")
            sock.close()
    assert batcher.waiting == 0


def test_names_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = named_folders([str(tmp_path / "en" / "model"), f"b={tmp_path}"])
    assert named == {"en": tmp_path / "en" / "model", "b": tmp_path}
    for wrong in (["a/b", "c/b"], ["embed=x"], ["v1=x"], ["a b=x"], []):
        with pytest.raises(UsageError):
            named_folders(wrong)
    monkeypatch.delenv("BERTWRIGHT_API_KEY", raising=False)
    assert read_key(None) is None
    monkeypatch.setenv("BERTWRIGHT_API_KEY", "k1")
    (tmp_path / "key").write_text("k2\n")
    assert (read_key(None), read_key(tmp_path / "key")) == ("k1", "k2")
    (tmp_path / "key").write_text("two words\n")
    for file in (tmp_path / "key", tmp_path / "none"):
        with pytest.raises(UsageError, match=file.name):
            read_key(file)
    with listening("127.0.0.1", 0) as taken, pytest.raises(UsageError, match="--port"):  # noqa: PT012
        taken.listen()
        with listening("127.0.0.1", taken.getsockname()[1]):
            pass
