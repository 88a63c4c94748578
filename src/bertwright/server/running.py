"""Runs a server: models are opened, requests answered, and at a signal what waits is answered before the end."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.routing import Route
from starlette.types import ASGIApp

from bertwright.errors import UsageError
from bertwright.hub.onnx.onnx_folder import is_onnx_folder
from bertwright.log import Facts, note
from bertwright.result import Result
from bertwright.server.app import Service, build_app
from bertwright.server.batcher import Batcher, Observer
from bertwright.server.endpoints.call import Limits
from bertwright.server.endpoints.routes import ENDPOINTS
from bertwright.server.guard import PUBLIC
from bertwright.server.home_page import RUNS
from bertwright.server.open_model import open_model
from bertwright.server.prometheus import Metrics
from bertwright.server.served_model import Precision, ServedModel
from bertwright.stopping import STOPPING, on_signals
from bertwright.system import wanted_threads

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
KEY = "BERTWRIGHT_API_KEY"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a model may be called: one part of a path."""
RESERVED = {path.split("/")[1] for path in (*PUBLIC, "/info", *(one.path for one in ENDPOINTS))}
"""The first parts of paths, which no model may be called by."""
CPU_TOKENS, GPU_TOKENS = 512, 16_384
"""Tokens of a batch: of one core, as in `cpu_policy`, and of a GPU, as TEI has it."""
GPU_WORKERS = 2
"""While one batch is computed, another is prepared."""
KEEP_ALIVE = 75
"""Seconds that a connection may be idle: longer than load balancers keep theirs, as a rule 60."""
BACKLOG = 2048
"""Connections that may wait to be accepted."""


def serve_models(
    named: Sequence[str],
    limits: Limits,
    *,
    host: str,
    port: int,
    precision: Precision,
    key: str | None,
    tokens: int | None,
    pages: Sequence[Route] = (),
) -> Result:
    """Serve the models of folders, DIR or NAME=DIR, until a signal; return how many requests were answered and refused.

    `pages` are what else is shown, at RUNS.

    Raises UsageError where the address cannot be listened to or two models have one name, and ModelError for a folder
    that is unfit.
    """
    folders = named_folders(named)
    with listening(host, port) as found:
        on_gpu = _uses_gpu(folders.values())
        budget = tokens or (GPU_TOKENS if on_gpu else CPU_TOKENS)
        models = {
            name: open_model(name, folder, precision=precision, budget=budget) for name, folder in folders.items()
        }
        metrics = Metrics()
        batcher = Batcher(
            workers=GPU_WORKERS if on_gpu else wanted_threads(),
            budget=budget,
            most_jobs=limits.concurrent,
            begin=_single_threaded(models.values()),
            observer=Observer(metrics.batch, metrics.dropped),
        )
        hosts = LOOPBACK | {host} if is_loopback(host) else None
        service = Service(models, batcher, limits, metrics, key, hosts, pages)
        _announce(found, service)
        began = time.perf_counter()
        server_of(build_app(service), seconds=limits.seconds).run(sockets=[found])
        return _summary(metrics, time.perf_counter() - began)


def named_folders(named: Sequence[str]) -> dict[str, Path]:
    """Return the folders of models by name, from DIR or NAME=DIR; raises UsageError where a name is unfit or doubled.

    >>> named_folders(["runs/en/model", "news=runs/2/model"])
    {'en': PosixPath('runs/en/model'), 'news': PosixPath('runs/2/model')}
    """
    folders: dict[str, Path] = {}
    for one in named:
        name, given, path = one.rpartition("=")
        folder = Path(path)
        if not given or Path(one).exists():
            folder = Path(one)
            inside = folder.resolve()
            name = inside.parent.name if inside.name == "model" else inside.name
        if not NAME.fullmatch(name):
            raise UsageError(
                f"--model {one}: {name!r} cannot be a model's name; give NAME=DIR, of letters, digits, . _ -"
            )
        if name in RESERVED:
            raise UsageError(f"--model {one}: /{name} is an endpoint; give the model another name, NAME=DIR")
        if name in folders:
            raise UsageError(f"--model {one}: another model is called {name}, too; give NAME=DIR")
        folders[name] = folder
    if not folders:
        raise UsageError("nothing to serve: give --model DIR")
    return folders


def read_key(file: Path | None) -> str | None:
    """Return the key of a file or of the environment, if any; raises UsageError where it is empty or no ASCII text."""
    try:
        key = os.environ.get(KEY) if file is None else file.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise UsageError(f"--api-key-file {file} cannot be read ({error}); give a file with the key alone") from error
    if key is None:
        return None
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"{KEY if file is None else file} should hold a key: visible ASCII characters, in one word")
    return key


def is_loopback(host: str) -> bool:
    """Say whether an address reaches this machine alone."""
    return host in LOOPBACK or host.startswith("127.")


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens, and close it; raises UsageError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, port))
            found.listen(BACKLOG)
        except (OSError, OverflowError) as error:
            raise UsageError(f"--host {host} --port {port} cannot be listened to ({error}); give others") from error
        yield found


def server_of(app: ASGIApp, *, seconds: float) -> uvicorn.Server:
    """Return what serves until a signal; requests that are being answered then get `seconds` to be done."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=round(seconds + 1),
        backlog=BACKLOG,
        ws="none",
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Stops at the signals that other commands stop at; being asked to is no failure."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let the first signal ask for the end; a second one ends the process at once."""

        def stop(_: int) -> None:
            self.should_exit = True

        with on_signals(STOPPING, stop):
            yield


def _uses_gpu(folders: Iterable[Path]) -> bool:
    """Say whether the models will run on a GPU; exported ones run on the CPU, without torch."""
    if all(is_onnx_folder(folder) for folder in folders):
        return False
    from bertwright.device import pick_device

    return pick_device().type == "cuda"


def _single_threaded(models: Iterable[ServedModel]) -> Callable[[], None]:
    """Return what a thread does first so that its products stay on its own core."""
    if not any(model.dtype != "int8" for model in models):
        return lambda: None
    import torch

    torch.set_num_threads(1)
    return lambda: torch.set_num_threads(1)


def _announce(sock: socket.socket, service: Service) -> None:
    """Say where the server listens, and who may ask."""
    host, port = sock.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    note(f"listening at {address}")
    if service.pages:
        note(f"runs at {address}{RUNS}")
    if service.hosts is None and service.key is None:
        note(
            "warning: whoever reaches this address may ask, without a key; give --api-key-file, "
            "or leave --host out to serve this machine alone"
        )


def _summary(metrics: Metrics, seconds: float) -> Result:
    """Return what was done until the end."""
    counts: dict[str, int] = {}
    for (name, _), count in metrics.counters.items():
        counts[name] = counts.get(name, 0) + count
    figures = {
        "answered": counts.get("te_request_success", 0),
        "refused": counts.get("te_request_failure", 0),
        "seconds": round(seconds, 1),
    }
    return Result(figures, Facts("served", {name: f"{value:,}" for name, value in figures.items()}))
