"""Turns a Ray cluster into workers for `prepare`: many machines clean and encode, one reads and writes.

Each task is a batch of documents and depends on nothing but the plan, so Ray gives a task whose machine is lost to
another, and the bytes of DATA are those of one machine. bertwright must be installed on every machine of the cluster.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertwright.corpus.executors.processes import Stage, Workers, packed, unpacked
from bertwright.corpus.executors.work import TextWork, WorkPlan
from bertwright.errors import UsageError, WorkerError
from bertwright.files import sha256_of

Parcel = tuple[WorkPlan, dict[str, bytes]]
"""A plan and the files of its tokenizer, by name: other machines do not see the folder."""


@contextmanager
def ray_cluster(plan: WorkPlan) -> Iterator[Workers]:
    """Work on the cluster that RAY_ADDRESS names, or on one started here for the time being.

    Raises UsageError where Ray is not installed, WorkerError where the cluster is lost.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray; pip install 'bertwright[cluster]' on every machine") from error
    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    work = ray.remote(num_cpus=1, max_retries=-1)(_work)
    files = {path.name: path.read_bytes() for path in sorted(plan.tokenizer.iterdir()) if path.is_file()}
    parcel, key = [ray.put((plan, files))], f"{sha256_of(plan.tokenizer / 'tokenizer.json')} {id(plan)} {os.getpid()}"

    def submit(stage: Stage, texts: pa.StringArray) -> Any:
        return work.remote(key, parcel, stage, packed(texts)).future()

    try:
        yield Workers(submit, ahead=2 * max(1, int(ray.cluster_resources().get("CPU", 1))))
    except ray.exceptions.RayError as error:
        reason = str(error).strip().split("\n")[0]
        raise WorkerError(
            f"the Ray cluster did not finish ({reason}); the same command goes on from the last whole shard"
        ) from error
    finally:
        if started:
            ray.shutdown()


_known: dict[str, TextWork] = {}


def _work(key: str, parcel: list[Any], stage: Stage, data: pa.Buffer) -> Any:
    """Do a stage on a machine of the cluster; the plan is fetched once a process."""
    if key not in _known:
        import ray

        os.environ["RAYON_NUM_THREADS"] = "1"
        plan, files = ray.get(parcel[0])
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            _known[key] = TextWork(replace(plan, tokenizer=Path(folder)))
    work = _known[key]
    return (work.clean if stage == "clean" else work.encode)(unpacked(data))
