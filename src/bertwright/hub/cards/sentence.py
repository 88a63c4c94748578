"""Turns the figures of a run that trained sentence vectors into the model card of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from bertwright.hub.cards.fine_tuned import how_made, scores_table

USE = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
vectors = model.encode(["A text.", "Another one."])
print(model.similarity(vectors, vectors))
```

or `bertwright embed --model path/to/this/folder --input texts.txt --out vectors.npy`."""


def sentence_card(name: str, figures: Mapping[str, Any], *, pooling: str, normalize: bool) -> str:
    """Return a model card in Markdown from the figures of result.json."""
    splits = [split for split in ("dev", "test") if split in figures]
    tags = "[bert, sentence-transformers, sentence-similarity]"
    head = ["---", "library_name: sentence-transformers", "pipeline_tag: sentence-similarity", f"tags: {tags}", "---"]
    started = PurePath(figures["model"]).name
    vectors = f"pooled by {pooling}, of unit length" if normalize else f"pooled by {pooling}"
    sections = [
        "\n".join(head),
        f"# {name}",
        f"Sentence vectors, fine-tuned from `{started}`: {vectors}. Compare them by their cosine.",
        "## How well",
        scores_table(figures, splits),
        "## How it was made",
        how_made(figures),
        "## Use",
        USE,
        "## Limits",
        "It was judged on text like that it was trained on; measure it on your own before you rely on it.",
    ]
    return "\n\n".join(sections) + "\n"
