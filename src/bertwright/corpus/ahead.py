"""Turns a slow iterator into one whose next items are made in another thread, so that two cores work at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")
DEPTH = 2
"""Items made ahead: more would only take memory, some 30 MB each."""


def read_ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yield the items of an iterator, in order; what it raises is raised here. Leaving early ends the thread."""
    ready: queue.Queue[tuple[str, object]] = queue.Queue(maxsize=DEPTH)
    stopped = threading.Event()

    def offer(kind: str, value: object) -> None:
        while not stopped.is_set():
            try:
                ready.put((kind, value), timeout=0.1)
                return
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                offer("item", item)
                if stopped.is_set():
                    return
            offer("end", None)
        except BaseException as error:
            offer("error", error)

    thread = threading.Thread(target=make, name="reading ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
