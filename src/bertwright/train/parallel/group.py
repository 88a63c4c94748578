"""Turns one of several processes into its part of a run: the rows that are its own, and what all of them agree on.

A step has its micro-batches, each with its own masks and dropout, however many processes there are: process r of N
works on the r-th N-th of their rows, in order. Where N divides the micro-batches these are whole ones; where it does
not, the processes that share one each draw and mask all of it, so that its masks are the same, and keep their rows.
Losses are divided by the number of targets in the whole micro-batch, and gradients are summed: the loss curve does not
depend on N.

    12 rows, 2 micro-batches:   0 1 2 3 4 5 | 6 7 8 9 10 11
    2 processes                 ----- 0 ----- ------ 1 -----
    3 processes                 --- 0 -- -- 1 --- --- 2 ----

A run of one process meets none of this: there `ALONE` gives back what it is given.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from bertwright.errors import Interrupted, WorkerLostError
from bertwright.system import usable_cores

MESSAGE_BYTES = 2000
"""Bytes of what one process sends to all others."""


@dataclass(frozen=True)
class BatchSlice:
    """The part of micro-batch `index` one process works on: its rows from `start` / `of` to `stop` / `of`."""

    index: int
    start: int = 0
    stop: int = 1
    of: int = 1

    @property
    def fraction(self) -> float:
        """How much of the micro-batch it is, in (0, 1]."""
        return (self.stop - self.start) / self.of

    @property
    def whole(self) -> bool:
        """Whether it is all of it."""
        return self.stop - self.start == self.of

    def parts(self, count: int) -> list[BatchSlice]:
        """Return it cut into `count` parts of the same size.

        >>> BatchSlice(0, 1, 2, of=2).parts(2)
        [BatchSlice(index=0, start=2, stop=3, of=4), BatchSlice(index=0, start=3, stop=4, of=4)]
        """
        if count == 1:
            return [self]
        each, first = self.stop - self.start, self.start * count
        return [
            BatchSlice(self.index, first + part * each, first + (part + 1) * each, self.of * count)
            for part in range(count)
        ]

    def rows(self, count: int) -> slice:
        """Return which of the `count` rows of the micro-batch are meant."""
        return slice(count * self.start // self.of, count * self.stop // self.of)


@dataclass(frozen=True)
class Group:
    """The processes of a run, seen from one of them; the run of a single process is ALONE."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which logs and writes files."""
        return self.rank == 0

    def slices(self, micro_batches: int) -> list[BatchSlice]:
        """Return what this process works on, of a step of so many micro-batches."""
        first, stop = self.rank * micro_batches, (self.rank + 1) * micro_batches
        return [
            BatchSlice(index, max(first - index * self.size, 0), min(stop - index * self.size, self.size), self.size)
            for index in range(first // self.size, -(-stop // self.size))
        ]

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all processes, in float64 where there are several."""
        if self.size == 1:
            return values
        values = values.double()
        dist.all_reduce(values)
        return values

    def total(self, figures: Mapping[str, float]) -> Mapping[str, float]:
        """Return each figure summed over all processes, which have the same names."""
        if self.size == 1:
            return figures
        sums = self.all_reduce(torch.tensor(list(figures.values()), dtype=torch.float64))
        return dict(zip(figures, sums.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Say whether any process says so."""
        return flag if self.size == 1 else self.total({"any": float(flag)})["any"] > 0

    def broadcast(self, value: float) -> float:
        """Return what the first process has, such as the time: clocks differ, and all must end at the same step."""
        return value if self.size == 1 else self.total({"first": value if self.is_main else 0.0})["first"]

    def gathered(self, data: bytes, channel: dist.ProcessGroup | None = None) -> list[bytes]:
        """Return the bytes of every process in order, sent over `channel`; all give the same number of them."""
        if self.size == 1:
            return [data]
        mine = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(found, mine, channel)
        return [bytes(each.numpy()) for each in found]

    def first_message(self, message: str) -> str:
        """Return the message of the first process that has one ("" is none), the same in all; long ones are cut."""
        if self.size == 1:
            return message
        padded = message.encode()[:MESSAGE_BYTES].ljust(MESSAGE_BYTES, b"\0")
        found = [data.rstrip(b"\0").decode(errors="ignore") for data in self.gathered(padded)]
        return next((one for one in found if one), "")

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def channel(self, *, timeout: float) -> dist.ProcessGroup:
        """Return a way of its own for the messages of another thread than the one that trains."""
        group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        return group

    @torch.no_grad()
    def same_weights(self, model: nn.Module) -> None:
        """Give every process the weights of the first: other machines may round otherwise in making them."""
        for parameter in model.parameters():
            self.same_tensor(parameter)

    def same_tensor(self, tensor: Tensor) -> Tensor:
        """Return `tensor` with the values that the first process has, in place."""
        if self.size > 1:
            dist.broadcast(tensor, 0)
        return tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """Return all of a tensor, gathered from every process where it is sharded; all of them must ask.

    A sharded tensor is recognised by its method: to import its class takes a second that other runs need not wait for.
    """
    gather: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


ALONE = Group()
"""The run of a single process."""


@contextmanager
def init_distributed(*, timeout: float) -> Iterator[Group]:
    """Join the other processes torchrun started, on this process's own device, and leave them at the end.

    Raises WorkerLostError where one of them is gone, or gives no answer for `timeout` seconds. Outside torchrun, or as
    its only process, nothing is joined.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "LOCAL_RANK" not in os.environ:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        _share_threads()
    # Figures and clocks are agreed on the CPU, by gloo, so that they never wait for a GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=timeout)))
        store = _unused(store, rank, size, timeout=timeout)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=timeout))
        yield Group(rank, size)
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise WorkerLostError(_lost(error)) from error
        raise
    except Interrupted:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def _unused(store: Store, rank: int, size: int, *, timeout: float) -> Store:
    """Return the part of torchrun's store that no earlier start of these processes has left addresses in.

    torchrun keeps one store over all restarts: processes that find the address of a dead one there wait for it forever.
    So each asks the first under a name of its own, and has seen what the first answers before any goes on.
    """
    if rank:
        name = uuid4().hex
        store.set(f"asks/{rank}", name)
        start = store.get(f"answer/{name}").decode()
        store.set(f"seen/{start}/{rank}", "")
        return PrefixStore(start, store)
    start, waiting, deadline = uuid4().hex, set(range(1, size)), time.monotonic() + timeout
    while waiting:
        for other in sorted(waiting):
            if store.check([f"asks/{other}"]):
                store.set(f"answer/{store.get(f'asks/{other}').decode()}", start)
        waiting = {other for other in waiting if not store.check([f"seen/{start}/{other}"])}
        if waiting and time.monotonic() > deadline:
            raise WorkerLostError(
                f"process {min(waiting)} of {size} did not come within {timeout:g} s; see its messages"
            )
        time.sleep(0.02)
    return PrefixStore(start, store)


def _lost(error: RuntimeError) -> str:
    return (
        f"process {os.environ['RANK']} lost touch with another of this run ({str(error).splitlines()[0][:200]}); "
        "torchrun --max-restarts 3 goes on from the last checkpoint by itself, the same command with --resume by hand"
    )


def _share_threads() -> None:
    """Give each process of this machine its share of the CPU cores, where torchrun gave each of several but one."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if here > 1 and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cores() // here))


def launch_name() -> str | None:
    """Return what names this call of torchrun, the same in every process it restarts; None outside torchrun.

    It is the --rdzv-id, where one was given; else the process of torchrun itself, by machine, number and start.
    """
    given = os.environ.get("TORCHELASTIC_RUN_ID")
    if given is None or given != "none":
        return given
    agent = os.getppid()
    try:
        began = Path(f"/proc/{agent}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        began = ""
    return f"{socket.gethostname()}:{agent}:{began}"
