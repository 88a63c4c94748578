"""Signals that ask to stop: each ends the work in good order, and a call leaves the handlers as they were."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertwright.cli import main as front
from bertwright.files import written_aside
from bertwright.stopping import STOPPING, StopSignal, on_signals, signals_raise

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a system without SIGHUP")


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Let a signal that nobody handles fail the test instead of ending all of them."""
    before = {number: signal.getsignal(number) for number in STOPPING}

    def unhandled(number: int, frame: object) -> None:
        raise AssertionError(f"nobody handled signal {number}")

    for number in before:
        signal.signal(number, unhandled)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPPING)
def test_the_first_signal_is_heard_and_handlers_come_back(number: int) -> None:
    before, received = [signal.getsignal(one) for one in STOPPING], []
    with on_signals(STOPPING, received.append):
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGHUP)  # a dropped connection sends it twice, and a scheduler after SIGTERM
        assert received == [number]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert [signal.getsignal(one) for one in STOPPING] == before


def test_nohup_stays_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals_raise():
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(StopSignal):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_thread_sets_no_handlers() -> None:
    before, found = [signal.getsignal(one) for one in STOPPING], []

    def work() -> None:
        with on_signals(STOPPING, found.append):
            found.extend(signal.getsignal(one) for one in STOPPING)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 143), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_verb_that_writes_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(words: list[str]) -> None:
        with written_aside(tmp_path / "answers.jsonl") as aside:
            aside.write_text("half of")
            os.kill(os.getpid(), number)

    monkeypatch.setattr(front, "run_command", run)
    assert front.main([]) == code
    assert not any(tmp_path.iterdir())
