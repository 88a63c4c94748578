"""Turns the signals that ask a process to stop into one exception or one question, and puts the handlers back.

Ctrl-C, SIGTERM (a scheduler, a shutdown) and SIGHUP (a closed terminal, a dropped connection) ask for the same: save
and end. Only the main thread may set handlers; in another one a call goes on without them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from bertwright.errors import Interrupted, Terminated

TERMINATING = tuple(
    int(number) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if (number := getattr(signal, name, None)) is not None
)
"""The signals of this system that end a process from outside; SIGBREAK is what Windows sends when a window closes."""
STOPPING = (*TERMINATING, int(signal.SIGINT))
"""These and Ctrl-C."""
HANGUP = getattr(signal, "SIGHUP", None)


class StopSignal(KeyboardInterrupt):
    """Raised where SIGTERM or SIGHUP arrives, as KeyboardInterrupt is by Ctrl-C; `except Exception` lets it pass."""


def interrupted(stop: KeyboardInterrupt, message: str) -> Interrupted:
    """Return the error that ends a command which was stopped: Terminated by a signal, Interrupted by Ctrl-C."""
    return Terminated(message) if isinstance(stop, StopSignal) else Interrupted(message)


def stopped_by(number: int | None, message: str) -> Interrupted:
    """Return the error that ends a run which signal `number` asked to stop."""
    return Terminated(message) if number in TERMINATING else Interrupted(message)


@contextmanager
def signals_raise() -> Iterator[None]:
    """Raise StopSignal where SIGTERM or SIGHUP arrives, so that what was half written is removed on the way out."""

    def leave(number: int) -> None:
        raise StopSignal

    with on_signals(TERMINATING, leave):
        yield


@contextmanager
def on_signals(numbers: Sequence[int], ask: Callable[[int], None]) -> Iterator[None]:
    """Call `ask` with the number of the first of these signals; a second one ends the process at once.

    The system itself then ends it, whatever the process is busy with. SIGHUP alone does not count as a second one:
    where a connection drops, both the shell and the system send it. A SIGHUP that is ignored (nohup) stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN if one == HANGUP else signal.SIG_DFL)
        ask(number)

    before = {
        number: signal.getsignal(number)
        for number in numbers
        if not (number == HANGUP and signal.getsignal(number) == signal.SIG_IGN)
    }
    try:
        for number in before:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
