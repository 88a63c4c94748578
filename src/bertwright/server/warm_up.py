"""Has a model answer once before clients do: memory is taken, and the fast tokenizer proved equal to the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bertwright.inference.text_rows import MASK
from bertwright.rng import stream
from bertwright.server.batcher import Prepared
from bertwright.server.lanes import Asked, EmbedText, Masked
from bertwright.server.served_model import ServedModel
from bertwright.tasks.text_encoder import FEWEST

WORDS = 24
"""Tokens of a text."""

QUESTIONS: dict[str, Callable[[str], Any]] = {
    "embed": lambda text: EmbedText(text, truncate=True),
    "embed_all": lambda text: EmbedText(text, truncate=True),
    "predict": lambda text: Asked((text,), truncate=True),
    "rerank": lambda text: Asked((text, text), truncate=True),
    "fill_mask": lambda text: Masked(f"{text} {MASK}", top_k=1),
    "next_sentence": lambda text: Asked((text, text), truncate=True),
    "tag": lambda text: Asked((text,)),
    "answer": lambda text: Asked((text, text)),
    "choose": lambda text: Asked((text, text, text), truncate=True),
    "translate": lambda text: Asked((text,), truncate=True),
}
"""A question of each lane about a text."""


def warm_up(model: ServedModel) -> None:
    """Ask each lane of a model about texts of its own vocabulary."""
    random, tokenizer = stream("warm-up", 0), model.tokenizer
    tokens = random.integers(tokenizer.vocab_size, size=(FEWEST, WORDS)).tolist()
    texts = [tokenizer.decode(row) for row in tokens]
    for name, lane in model.lanes.items():
        if name == "predict" and model.pairs:
            name = "rerank"
        questions = [QUESTIONS[name](text) for text in texts]
        prepared = [one for one in lane.prepare(questions) if isinstance(one, Prepared)]
        lane.answer([one.row for one in prepared[:2]])
