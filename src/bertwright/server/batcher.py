"""Turns questions of many clients into batches of similar length, which worker threads answer one after another.

    submit -> arrived -> prepared, all at once (tokens, cost) -> ready -> a batch -> answers -> the client's loop

A batch is the question that has waited longest and those most like it in length, up to a budget of tokens: nobody waits
for ever, and next to nothing of a batch is padding.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

from bertwright.log import silent
from bertwright.server.refusal import Refusal, as_refusal

BATCH_COST = 64
"""Tokens that a batch costs beside those in it: weights are read and layers are called however few there are."""
MOST_ROWS = 128
"""Questions of a batch at most."""


@dataclass(frozen=True)
class Prepared:
    """A question as a model reads it.

    cost       tokens it takes up in a batch
    tokens     tokens the model reads, special ones included
    truncated  whether some of the text is left out
    split      whether the text is read in several parts
    row        what `Lane.answer` takes
    """

    cost: int
    tokens: int
    row: Any
    truncated: bool = False
    split: bool = False


class Lane(Protocol):
    """What one model does in one way: questions of a lane may share a batch."""

    def prepare(self, questions: Sequence[Any]) -> list[Prepared | Refusal]:
        """Return each question as the model reads it, or why it cannot."""
        ...

    def answer(self, rows: Sequence[Any]) -> list[Any]:
        """Return the answers to prepared questions, in order."""
        ...


@dataclass(frozen=True)
class Answered:
    """The answers to the questions of a job, and what the headers say.

    Times are in seconds: of the tokenization of all that arrived together, and means over the questions.
    """

    answers: list[Any]
    tokens: int
    truncated: int
    split: int
    tokenization: float
    queue: float
    inference: float


@dataclass(eq=False)
class Job:
    """The questions of one request to one lane; `future` gets an `Answered` or a Refusal in the client's loop."""

    lane: Lane
    questions: Sequence[Any]
    future: asyncio.Future[Answered]
    since: float = field(default_factory=time.perf_counter)
    gone: bool = False
    """Whether nobody waits for it any more."""
    answers: list[Any] = field(default_factory=list)
    left: int = 0
    tokens: int = 0
    truncated: int = 0
    split: int = 0
    tokenization: float = 0.0
    queue: float = 0.0
    inference: float = 0.0
    failure: Refusal | None = None

    def finish(self) -> None:
        """Hand the answers, or the refusal, to who waits; runs in the loop of the client."""
        if self.future.done():
            return
        if self.failure is not None:
            self.future.set_exception(self.failure)
            return
        count = len(self.answers)
        self.future.set_result(
            Answered(
                self.answers,
                self.tokens,
                self.truncated,
                self.split,
                self.tokenization,
                self.queue / count,
                self.inference / count,
            )
        )


@dataclass(eq=False, slots=True)
class Waiting:
    """A prepared question of a job, and its place there."""

    job: Job
    place: int
    cost: int
    row: Any


@dataclass(frozen=True)
class Observer:
    """What is called with figures as they come up: the size and tokens of each batch, and jobs nobody waited for."""

    batch: Callable[[int, int], None] = lambda size, tokens: None
    dropped: Callable[[], None] = lambda: None


class Batcher:
    """A bounded queue and the threads that empty it.

    >>> batcher = Batcher(workers=2, budget=512, most_jobs=512)
    >>> batcher.start()
    >>> answered = await batcher.submit(lane, ["a text", "another"])  # in a coroutine  # doctest: +SKIP
    >>> batcher.close()
    """

    def __init__(
        self,
        *,
        workers: int,
        budget: int,
        most_jobs: int,
        begin: Callable[[], None] = lambda: None,
        observer: Observer | None = None,
    ) -> None:
        """Take how many threads work, tokens of a batch, and jobs that may wait; each thread calls `begin` first."""
        self.budget, self.most_jobs, self.observer = budget, most_jobs, observer or Observer()
        self._begin = begin
        self._arrived: deque[Job] = deque()
        self._ready: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._open = True
        self._jobs = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"batches-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Take no more jobs, answer those that wait, and end the threads."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    @property
    def waiting(self) -> int:
        """Questions that wait."""
        with self._changed:
            return len(self._ready) + sum(len(job.questions) for job in self._arrived)

    async def submit(self, lane: Lane, questions: Sequence[Any]) -> Answered:
        """Return the answers to questions, at least one; where this is cancelled, those that still wait are dropped.

        Raises Refusal where too many jobs wait (Overloaded), or what `lane` says.
        """
        job = Job(lane, questions, asyncio.get_running_loop().create_future())
        if self._jobs >= self.most_jobs:
            raise Refusal(
                f"{self.most_jobs:,} requests are being answered, and no more may wait; try again later", "Overloaded"
            )
        self._jobs += 1
        try:
            with self._changed:
                if not self._open:
                    raise Refusal("the server is stopping; ask another one", "Unhealthy")
                self._arrived.append(job)
                self._changed.notify()
            return await job.future
        finally:
            self._jobs -= 1
            job.gone = True

    def _work(self) -> None:
        """Prepare what has arrived, else answer a batch, until closed and empty."""
        self._begin()
        while True:
            with self._changed:
                while self._open and not self._arrived and not self._ready:
                    self._changed.wait()
                arrived, batch = list(self._arrived), list[Waiting]()
                if arrived:
                    self._arrived.clear()
                elif self._ready:
                    batch = self._next_batch()
                else:
                    return
            if arrived:
                self._prepare(arrived)
            elif batch:
                self._answer(batch)

    def _prepare(self, arrived: list[Job]) -> None:
        """Put the questions of jobs where batches are taken from; a job with one that cannot be read is refused."""
        jobs = [job for job in arrived if not job.gone]
        ready: list[Waiting] = []
        for _, same in groupby(sorted(jobs, key=lambda job: id(job.lane)), key=lambda job: id(job.lane)):
            group = list(same)
            began = time.perf_counter()
            prepared = _prepared(group[0].lane, [one for job in group for one in job.questions])
            seconds, begin = time.perf_counter() - began, 0
            for job in group:
                end = begin + len(job.questions)
                job.tokenization = seconds
                ready += _accepted(job, prepared[begin:end])
                begin = end
        with self._changed:
            self._ready.extend(ready)
            self._changed.notify_all()
        _hand_over([job for job in jobs if job.failure is not None])

    def _next_batch(self) -> list[Waiting]:
        """Take the question that has waited longest from those ready, and those that are cheapest to answer with it."""
        kept = deque(one for one in self._ready if not one.job.gone)
        for _ in range(len(self._ready) - len(kept)):
            self.observer.dropped()
        self._ready = kept
        if not kept:
            return []
        oldest = kept[0]
        lane = oldest.job.lane
        alike = sorted((one for one in kept if one.job.lane is lane), key=lambda one: abs(one.cost - oldest.cost))
        batch = chosen(alike, budget=self.budget)
        taken = set(map(id, batch))
        self._ready = deque(one for one in kept if id(one) not in taken)
        return batch

    def _answer(self, batch: list[Waiting]) -> None:
        """Answer a batch; where that fails, each question alone, so that one does not spoil the others."""
        self.observer.batch(len(batch), sum(one.cost for one in batch))
        lane, began = batch[0].job.lane, time.perf_counter()
        answers: list[Any] = []
        try:
            with silent(True):  # of tasks' notes on single texts; headers say it
                answers = lane.answer([one.row for one in batch])
        except Exception as error:
            if len(batch) == 1:
                answers = [as_refusal(error)]
            else:
                for one in batch:
                    self._answer([one])
                return
        seconds = time.perf_counter() - began
        for one, answer in zip(batch, answers, strict=True):
            self._deliver(one, answer, waited=began - one.job.since - one.job.tokenization, seconds=seconds)
        _hand_over({id(one.job): one.job for one in batch if not one.job.left}.values())

    def _deliver(self, one: Waiting, answer: Any, *, waited: float, seconds: float) -> None:
        """Write down the answer to a question, and its times; several threads work at a job of several questions."""
        with self._changed:
            one.job.queue += waited
            one.job.inference += seconds
            if isinstance(answer, Refusal):
                one.job.failure, one.job.left = answer, 0
                one.job.gone = True
            elif not one.job.failure:
                one.job.answers[one.place] = answer
                one.job.left -= 1


def chosen(alike: Sequence[Waiting], *, budget: int) -> list[Waiting]:
    """Return those of `alike`, the most similar first, that it pays to answer with the first one.

    One more must fit the budget, padding included, and cost less padding than a batch of its own would cost.
    """
    batch, longest = [alike[0]], alike[0].cost
    for one in alike[1:MOST_ROWS]:
        widest = max(longest, one.cost)
        more = (len(batch) + 1) * widest - len(batch) * longest
        if (len(batch) + 1) * widest > budget or more > one.cost + BATCH_COST:
            continue
        batch.append(one)
        longest = widest
    return batch


def _prepared(lane: Lane, questions: list[Any]) -> list[Prepared | Refusal]:
    """Return questions as a lane reads them; where it fails, each alone."""
    try:
        with silent(True):
            return lane.prepare(questions)
    except Exception as error:
        if len(questions) == 1:
            refusal = as_refusal(error)
            return [refusal]
        return [one for question in questions for one in _prepared(lane, [question])]


def _accepted(job: Job, prepared: Sequence[Prepared | Refusal]) -> list[Waiting]:
    """Return the questions of a job as they wait; none where one of them is refused, and so is the job."""
    refused = next((one for one in prepared if isinstance(one, Refusal)), None)
    if refused is not None:
        job.failure = refused
        return []
    ready = [one for one in prepared if isinstance(one, Prepared)]
    job.answers, job.left = [None] * len(ready), len(ready)
    job.tokens = sum(one.tokens for one in ready)
    job.truncated, job.split = sum(one.truncated for one in ready), sum(one.split for one in ready)
    return [Waiting(job, place, one.cost, one.row) for place, one in enumerate(ready)]


def _finish(jobs: Iterable[Job]) -> None:
    for job in jobs:
        job.finish()


def _hand_over(jobs: Iterable[Job]) -> None:
    """Wake the clients of finished jobs, once a loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.future.get_loop(), []).append(job)
    for loop, some in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_finish, some)
