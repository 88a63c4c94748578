"""Turns the figures of a run into a model card: the README.md that says what a model is and how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertwright.hub.mappings.known import mapping_of
from bertwright.hub.mappings.modernbert_names import MODERN
from bertwright.model.build import ARCHITECTURES

USE = """\
```python
from transformers import pipeline

fill = pipeline("fill-mask", model="path/to/this/folder")
```

It is a plain `{kind}` of Hugging Face transformers: `AutoModel`, `AutoModelForMaskedLM` and the
fine-tuning classes load it as they load any other."""

USE_PAIRS = """\
```python
from transformers import pipeline

ask = pipeline("text-classification", model="path/to/this/folder")
ask({"text": "It was late.", "text_pair": "She went home."})
```

It is a plain `ModernBertForSequenceClassification` of Hugging Face transformers. `is_next`: the second text continues
the first; `random`: it comes from another document."""

LIMITS = (
    "It knows what its training text said and nothing else: expect its gaps and its prejudices. It was judged on "
    "held-out text of the same kind; measure it on your own before you rely on it."
)

BESIDE = (
    "Its next-sentence head stands in a model of its own, with the same encoder: the folder `{folder}` of the same run."
)


def model_card(name: str, figures: Mapping[str, Any]) -> str:
    """Return a model card in Markdown from the figures of a result.json; what is not known is left out."""
    language = figures.get("language")
    mapping = mapping_of(ARCHITECTURES[figures.get("architecture", "bert")].config_type)
    head = ["---", *([f"language: {language}"] if language else []), "library_name: transformers"]
    head += ["pipeline_tag: fill-mask", "tags: [bert, fill-mask]", "---"]
    sections = [
        "\n".join(head),
        f"# {name}",
        f"{mapping.what} pre-trained from raw text with bertwright.",
        _table(figures),
        "## Use",
        USE.format(kind=mapping.written_as),
        BESIDE.format(folder=figures["next_sentence_model"]) if "next_sentence_model" in figures else "",
        *_samples(figures.get("samples", [])),
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def next_sentence_card(name: str, figures: Mapping[str, Any]) -> str:
    """Return the card of a ModernBERT with its next-sentence head, from the figures of the result.json of its run."""
    language = figures.get("language")
    head = ["---", *([f"language: {language}"] if language else []), "library_name: transformers"]
    head += ["pipeline_tag: text-classification", "tags: [bert, next-sentence-prediction]", "---"]
    sections = [
        "\n".join(head),
        f"# {name}: does one text continue another?",
        f"{MODERN.what} with its next-sentence head, pre-trained from raw text with bertwright.",
        _table(figures),
        "## Use",
        USE_PAIRS,
        "## Limits",
        LIMITS,
    ]
    return "\n\n".join(sections) + "\n"


def _table(figures: Mapping[str, Any]) -> str:
    valid = figures.get("valid") or {}
    shown = {
        "size": figures.get("size"),
        "parameters": _number(figures.get("parameters")),
        "trained on": _tokens(figures),
        "held-out MLM loss": _number(valid.get("mlm_loss"), ".3f", " nats"),
        "held-out MLM perplexity": _number(valid.get("mlm_perplexity"), ",.1f"),
        "unigram entropy of the training text": _number(figures.get("unigram_entropy"), ".3f", " nats"),
        "held-out masked accuracy": _number(valid.get("mlm_accuracy"), ".1%"),
        "held-out NSP accuracy": _number(valid.get("nsp_accuracy"), ".1%"),
        "held-out NSP accuracy of always answering the commoner class": _number(valid.get("nsp_majority"), ".1%"),
        "held-out NSP balanced accuracy (a constant answer: 50%)": _number(valid.get("nsp_balanced_accuracy"), ".1%"),
    }
    lines = [f"| {name} | {value} |" for name, value in shown.items() if value]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else ""


def _tokens(figures: Mapping[str, Any]) -> str | None:
    if "tokens" not in figures:
        return None
    minutes = f" in {figures['seconds'] / 60:.1f} minutes" if "seconds" in figures else ""
    return f"{figures['tokens']:,} tokens{minutes}"


def _number(value: float | None, form: str = ",", unit: str = "") -> str | None:
    return None if value is None else f"{value:{form}}{unit}"


def _samples(samples: list[Mapping[str, Any]]) -> list[str]:
    if not samples:
        return []
    lines = ["| held-out sentence | the word | first guesses |", "|---|---|---|"]
    for sample in samples:
        guesses = ", ".join(f"{word} ({share:.0%})" for word, share in sample["predictions"][:3])
        lines.append("| " + " | ".join(_cell(text) for text in (sample["text"], sample["truth"], guesses)) + " |")
    return ["## What it says", "\n".join(lines)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
