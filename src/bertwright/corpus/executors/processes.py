"""Turns batches of documents into results in the same order, by workers: threads of this process, or other processes.

Whoever works, and however many, the results are the same; and so is what is done where one of them dies: the work
ends with one sentence, and the same command goes on from its journal.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Literal, TypeVar, cast

import pyarrow as pa

from bertwright.corpus.executors.work import TextWork, WorkPlan
from bertwright.errors import WorkerError
from bertwright.stopping import HANGUP

T = TypeVar("T")
Stage = Literal["clean", "encode"]
THREADS = 2
"""Threads that clean and encode: Python's lock keeps a third from helping, tokie uses every core by itself."""
TURN_SECONDS = 0.0002
READ_AHEAD = 2
"""Batches read ahead: more would only take memory, some 30 MB each."""
_END = object()


@dataclass(frozen=True)
class Workers:
    """Whoever works: `submit` starts a stage of TextWork on some documents; `ahead` batches keep everyone busy."""

    submit: Callable[[Stage, pa.StringArray], Future[Any]]
    ahead: int


def read_ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yield the items of an iterator, in order, the next ones made in another thread meanwhile, so that two cores work.

    What the iterator raises is raised here. Leaving early ends the thread.
    """
    with ThreadPoolExecutor(1, "reading ahead") as reader:
        begun = deque(reader.submit(next, items, _END) for _ in range(READ_AHEAD))
        while (item := begun.popleft().result()) is not _END:
            begun.append(reader.submit(next, items, _END))
            yield cast(T, item)


def in_order(items: Iterable[T], start: Callable[[T], Future[Any]], *, ahead: int) -> Iterator[tuple[T, Any]]:
    """Yield each item with the result of what was started for it, in order, with `ahead` items begun before."""
    begun: deque[tuple[T, Future[Any]]] = deque()
    for item in items:
        begun.append((item, start(item)))
        while len(begun) > ahead:
            first, result = begun.popleft()
            yield first, result.result()
    while begun:
        first, result = begun.popleft()
        yield first, result.result()


@contextmanager
def short_turns() -> Iterator[None]:
    """Let threads take Python's lock from one another after 0.2 ms instead of 5.

    A thread that comes back from reading or encoding otherwise waits for the one that finds sentences, a whole turn at
    each step it does in Python: preparing 111 MB of English takes 3.6 s instead of 3.2.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def threads(work: TextWork) -> Iterator[Workers]:
    """Work in threads of this process: nothing to start, nothing to copy."""
    stages = {"clean": work.clean, "encode": work.encode}
    with short_turns(), ThreadPoolExecutor(THREADS, "working") as pool:
        try:
            yield Workers(lambda stage, texts: pool.submit(stages[stage], texts), ahead=THREADS)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def processes(plan: WorkPlan, count: int) -> Iterator[Workers]:
    """Work in `count` processes, started afresh, so that nothing but the plan reaches them.

    Raises WorkerError where one of them dies. They end when this process does, whatever ends it.
    """
    pool = ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(plan, count)
    )
    try:
        yield Workers(lambda stage, texts: pool.submit(_work, stage, packed(texts)), ahead=2 * count)
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process was ended from outside, perhaps for want of memory; the same command goes on from the "
            "last whole shard (with --workers 1 if it happens again; in a script of your own, prepare must be called "
            'under `if __name__ == "__main__":`)'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def packed(texts: pa.StringArray) -> pa.Buffer:
    """Return documents as bytes to send: a slice of a larger array is sent without the rest of it."""
    return pa.record_batch([texts], names=["text"]).serialize()


def unpacked(data: pa.Buffer) -> pa.StringArray:
    """Return the documents that were `packed`."""
    return pa.ipc.read_record_batch(data, pa.schema([("text", pa.string())])).column(0)


_own_work: TextWork


def _begin(plan: WorkPlan, count: int) -> None:
    """Make this process ready to work: Ctrl-C and SIGHUP are the parent's affair, and it ends with its parent."""
    global _own_work
    for number in (signal.SIGINT, HANGUP):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["RAYON_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // count))
    _own_work = TextWork(plan)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(stage: Stage, data: pa.Buffer) -> Any:
    return (_own_work.clean if stage == "clean" else _own_work.encode)(unpacked(data))
