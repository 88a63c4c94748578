"""sentence-transformers behind FastAPI, as tutorials have it: the peer that benchmarks/serving.py measures.

    python benchmarks/peers/fastapi_vectors.py --model DIR --port 8081 [--one-at-a-time] [--bf16]

By default an endpoint is a plain function, which FastAPI calls in its pool of threads; with --one-at-a-time it is a
coroutine, which holds the event loop while the model computes. Which is faster depends on the cores.
"""

from __future__ import annotations

import argparse

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Texts(BaseModel):
    """What is asked: a text, or several."""

    inputs: str | list[str]


def build(model: SentenceTransformer, *, one_at_a_time: bool) -> FastAPI:
    """Return the app."""
    app = FastAPI()

    def vectors(request: Texts) -> list[list[float]]:
        texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
        found: list[list[float]] = model.encode(texts, normalize_embeddings=True, show_progress_bar=False).tolist()
        return found

    async def held(request: Texts) -> list[list[float]]:
        return vectors(request)

    app.post("/embed")(held if one_at_a_time else vectors)
    app.get("/health")(lambda: "ok")
    return app


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--one-at-a-time", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    model = SentenceTransformer(options.model, device="cuda" if torch.cuda.is_available() else "cpu")
    if options.bf16:
        model.bfloat16()
    model.encode(["warm up"] * 8)
    app = build(model, one_at_a_time=options.one_at_a_time)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
