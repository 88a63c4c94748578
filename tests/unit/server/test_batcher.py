"""What waits is answered in order of waiting, in batches of similar length, once, and within bounds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from bertwright.server.batcher import Batcher, Observer, Prepared, Waiting, chosen
from bertwright.server.refusal import Refusal


class Doubling:
    """Answers numbers with twice their value; a question costs as many tokens as it says."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate = gate
        self.batches: list[list[int]] = []

    def prepare(self, questions: Sequence[int]) -> list[Prepared | Refusal]:
        return [Refusal("negative") if one < 0 else Prepared(max(one, 1), one, one) for one in questions]

    def answer(self, rows: Sequence[int]) -> list[Any]:
        if self.gate is not None:
            self.gate.wait(10)
        self.batches.append(list(rows))
        if 13 in rows:
            raise RuntimeError("/secret/path")
        return [2 * row for row in rows]


def waiting(costs: Sequence[int]) -> list[Waiting]:
    return [Waiting(None, place, cost, cost) for place, cost in enumerate(costs)]  # type: ignore[arg-type]


def started(*, budget: int = 512, jobs: int = 100, workers: int = 1, observer: Observer | None = None) -> Batcher:
    batcher = Batcher(workers=workers, budget=budget, most_jobs=jobs, observer=observer)
    batcher.start()
    return batcher


def test_a_batch_keeps_to_the_budget_and_pays_for_its_padding() -> None:
    def costs(given: list[int], budget: int = 512) -> list[int]:
        return [one.cost for one in chosen(waiting(given), budget=budget)]

    assert costs([100, 100, 101, 99, 101, 99]) == [100, 100, 101, 99, 101]  # 6 x 101 > 512
    assert costs([600, 10]) == [600]
    assert costs([10, 12, 9, 300]) == [10, 12, 9]
    assert costs([200, 30]) == [200]  # 170 of padding cost more than a batch of its own
    assert costs([80, 30]) == [80, 30]


def test_answers_come_to_who_asked() -> None:
    async def ask() -> list[list[int]]:
        found = await asyncio.gather(*(batcher.submit(lane, [one, one + 1]) for one in range(20, 60)))
        return [one.answers for one in found]

    batcher, lane = started(workers=3), Doubling()
    assert asyncio.run(ask()) == [[2 * one, 2 * one + 2] for one in range(20, 60)]
    batcher.close()
    assert sum(map(len, lane.batches)) == 80
    assert len(lane.batches) < 80


def test_no_more_wait_than_may_and_none_is_lost_when_it_closes() -> None:
    async def ask() -> None:
        first = [asyncio.create_task(batcher.submit(lane, [one])) for one in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await batcher.submit(lane, [1])
        assert refused.value.status == 429
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.05)
        gate.set()
        assert [one.answers for one in await asyncio.gather(*first)] == [[0], [2], [4], [6], [8]]
        await closing
        with pytest.raises(Refusal) as stopped:
            await batcher.submit(lane, [1])
        assert stopped.value.status == 503

    gate = threading.Event()
    batcher, lane = started(jobs=5), Doubling(gate)
    asyncio.run(ask())


def test_what_nobody_waits_for_is_not_computed() -> None:
    dropped: list[int] = []

    async def ask() -> None:
        busy = asyncio.create_task(batcher.submit(lane, [500]))
        while batcher.waiting != 0 or not lane.seen:
            await asyncio.sleep(0.01)
        gone = asyncio.create_task(batcher.submit(lane, [1]))
        kept = asyncio.create_task(batcher.submit(lane, [2]))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        gate.set()
        assert (await kept).answers == [4]
        await busy

    class Seen(Doubling):
        seen = False

        def answer(self, rows: Sequence[int]) -> list[Any]:
            self.seen = True
            return super().answer(rows)

    gate = threading.Event()
    lane = Seen(gate)
    batcher = started(observer=Observer(dropped=lambda: dropped.append(1)))
    asyncio.run(ask())
    batcher.close()
    assert sorted(map(tuple, lane.batches)) == [(2,), (500,)]


def test_one_bad_question_spoils_no_other() -> None:
    async def ask() -> list[Any]:
        tasks = [batcher.submit(lane, [one]) for one in (10, 13, 12, -1)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    batcher, lane = started(), Doubling()
    ten, failed, twelve, refused = asyncio.run(ask())
    batcher.close()
    assert (ten.answers, twelve.answers) == ([20], [24])
    assert (failed.status, failed.error_type) == (424, "Backend")
    assert "secret" not in str(failed)
    assert refused.status == 422


def test_a_long_question_is_answered_while_short_ones_keep_coming() -> None:
    """The one that has waited longest is in the next batch, however few are like it."""

    async def ask() -> int:
        long = asyncio.create_task(batcher.submit(lane, [400]))
        shorts = [asyncio.create_task(batcher.submit(lane, [4])) for _ in range(50)]
        await asyncio.sleep(0)
        gate.set()
        await long
        await asyncio.gather(*shorts)
        return next(place for place, batch in enumerate(lane.batches) if 400 in batch)

    gate = threading.Event()
    batcher, lane = started(), Doubling(gate)
    assert asyncio.run(ask()) <= 1
    batcher.close()
