"""Turns the figures of a translation run into its model card: what it translates, how well, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from bertwright.hub.cards.fine_tuned import how_made, scores_table

USE = """\
```python
from transformers import AutoTokenizer, EncoderDecoderModel

model = EncoderDecoderModel.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
inputs = tokenizer(["A text."], return_tensors="pt")
written = model.generate(inputs.input_ids, attention_mask=inputs.attention_mask)
print(tokenizer.batch_decode(written, skip_special_tokens=True))
```

`bertwright predict --model path/to/this/folder "A text."` writes the same."""


def translation_card(name: str, figures: Mapping[str, Any]) -> str:
    """Return a model card in Markdown from the figures of a translation run's result.json."""
    splits = [split for split in ("dev", "test") if split in figures]
    started = {"both": "", "encoder": ", the decoder at random", "neither": ", its shape alone: all weights at random"}
    head = ["---", "library_name: transformers", "pipeline_tag: translation", "tags: [bert, translation]", "---"]
    recipe = how_made(figures, examples="pairs", also=f"label smoothing {figures['smoothing']:g}, ")
    scores = f"Of texts written with {figures['beams']} beams, counted by sacrebleu:"
    sections = [
        "\n".join(head),
        f"# {name}",
        "An encoder-decoder (`EncoderDecoderModel`) that says a text in another language.",
        "## How well",
        scores,
        scores_table(figures, splits),
        "\n".join(f"- {kind}: `{signature}`" for kind, signature in figures["signatures"].items()),
        "## How it was made",
        f"Started from `{PurePath(figures['model']).name}`{started[figures['start']]}. {recipe}",
        "## Use",
        USE,
        "## Limits",
        "It was judged on text like that it was trained on, and may leave out or invent what a text says; have what "
        "matters read by someone who knows both languages.",
    ]
    return "\n\n".join(sections) + "\n"
