"""Answers over HTTP what models are for, until it is stopped.

The work is in server/, which is imported by a call: --help does not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bertwright.errors import UsageError
from bertwright.flags import with_flags
from bertwright.result import Result

if TYPE_CHECKING:
    from starlette.routing import Route


@with_flags("serve")
def serve(
    model: Sequence[str],
    *,
    watch: Sequence[Path | str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    precision: Literal["fp32", "bf16"] = "fp32",
    api_key_file: Path | str | None = None,
    max_concurrent_requests: int = 512,
    max_client_batch_size: int = 32,
    max_batch_tokens: int | None = None,
    max_body_bytes: int = 2_000_000,
    timeout: float = 60.0,
    auto_truncate: bool = False,
) -> Result:
    """Answer over HTTP what models are for: the endpoints of Text Embeddings Inference and OpenAI's, and more.

    Clients of those, and huggingface_hub's InferenceClient, work unchanged. /docs lists the endpoints, /health says
    when the models are warmed up. It stops at Ctrl-C or SIGTERM, once everything that was asked is answered.

    Parameters
    ----------
    model
        Hugging Face folder, or an ONNX folder of `bertwright export`; or NAME=DIR. Several may be given: a request
        names one in its field `model` or its path, /NAME/..., and otherwise asks the first.
    watch
        RUN folders to show at /runs/, also while they train, as `bertwright watch` does.
    host
        Address to listen at; 0.0.0.0 for every one of this machine. By default only this machine can ask.
    port
        Port to listen at; 0 for any that is free.
    precision
        fp32, or bf16: faster where the hardware multiplies it, and off by about a hundredth of a vector's length.
    api_key_file
        File with the key that requests must bring as `Authorization: Bearer KEY`; or the environment variable
        BERTWRIGHT_API_KEY holds it. By default none is needed.
    max_concurrent_requests
        Requests that are answered at the same time or wait for it; any more get 429.
    max_client_batch_size
        Texts of a request at most.
    max_batch_tokens
        Tokens of a batch of the model at most, padding included; by default as suits the device.
    max_body_bytes
        Bytes of a request's body at most.
    timeout
        Seconds that a request may take.
    auto_truncate
        Cut texts that are too long where a request does not say; by default they are refused.

    Raises
    ------
    UsageError
        Where the address cannot be listened to, two models have one name, a folder to watch is no run, or the extra
        `serve` is not installed.
    ModelError
        Where a folder is damaged or lacks weights.
    """
    missing = [name for name in ("starlette", "uvicorn", "msgspec") if find_spec(name) is None]
    if missing:
        raise UsageError(f"this needs {' and '.join(missing)}: pip install 'bertwright[serve]'")
    from bertwright.server.endpoints.call import Limits
    from bertwright.server.home_page import RUNS
    from bertwright.server.running import read_key, serve_models
    from bertwright.types import listed
    from bertwright.verbs.calls.folder_kind import run_folders

    limits = Limits(
        max_concurrent_requests, max_client_batch_size, max_body_bytes, seconds=timeout, truncate=auto_truncate
    )
    key = read_key(None if api_key_file is None else Path(api_key_file))
    runs = run_folders(listed(watch or [], what="runs"))
    pages: list[Route] = []
    if runs:
        from bertwright.reports.watching.watch_routes import watch_routes

        pages = watch_routes(runs, at=RUNS, home="../")
    return serve_models(
        listed(model),
        limits,
        host=host,
        port=port,
        precision=precision,
        key=key,
        tokens=max_batch_tokens,
        pages=pages,
    )
