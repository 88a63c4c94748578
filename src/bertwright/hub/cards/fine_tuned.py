"""Turns the figures of a fine-tuning run into its model card: what the model answers, how well, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from bertwright.model.encoder import HeadType
from bertwright.tasks.by_name import TASKS

PIPELINES: dict[HeadType, str] = {
    "row": "text-classification",
    "token": "token-classification",
    "span": "question-answering",
    "choice": "multiple-choice",
}
"""What Hugging Face calls the pipeline of a task, by what its head is about."""
CLASSES: dict[HeadType, str] = {"span": "AutoModelForQuestionAnswering", "choice": "AutoModelForMultipleChoice"}
"""The class to load for tasks that transformers has no pipeline for."""

USE = """\
```python
from transformers import pipeline

ask = pipeline("{pipeline}", model="path/to/this/folder")
```"""
USE_CLASS = """\
```python
from transformers import AutoTokenizer, {name}

model = {name}.from_pretrained("path/to/this/folder")
words = AutoTokenizer.from_pretrained("path/to/this/folder")
```

`bertwright predict --model path/to/this/folder --input questions` gives the answers themselves."""


def task_card(name: str, figures: Mapping[str, Any], *, names: Mapping[str, str] | None = None) -> str:
    """Return a model card in Markdown from the figures of a fine-tuning run's result.json, called as `names` say."""
    task = figures["task"]
    part = TASKS[task].part
    pipeline = PIPELINES[part]
    splits = [split for split in ("dev", "test") if split in figures]
    labels = ", ".join(f"`{label}`" for label in figures["labels"])
    head = ["---", "library_name: transformers", f"pipeline_tag: {pipeline}", f"tags: [bert, {pipeline}]", "---"]
    started = PurePath(figures["model"]).name
    sections = [
        "\n".join(head),
        f"# {name}",
        f"`{task}`, fine-tuned from `{started}`. Its outputs: {labels}.",
        "## How well",
        scores_table(figures, splits, names=names),
        "## How it was made",
        how_made(figures),
        "## Use",
        USE_CLASS.format(name=CLASSES[part]) if part in CLASSES else USE.format(pipeline=pipeline),
        "## Limits",
        "It was judged on text like that it was trained on; measure it on your own before you rely on it.",
    ]
    return "\n\n".join(sections) + "\n"


def how_made(figures: Mapping[str, Any], *, examples: str = "examples", also: str = "") -> str:
    """Return by what data and recipe a model was made, in a paragraph; `also` is what else its kind of task has."""
    files = {name: f"`{file}`" for name, file in figures["files"].items()}
    files = {name: files.get(name, "held out of it by a hash") for name in figures["examples"]}
    read = ", ".join(f"{name} {file} ({figures['examples'][name]:,} {examples})" for name, file in files.items())
    chosen = ", ".join(f"{name} {value}" for name, value in figures["strategies"].items())
    also += f"settings besides the usual ones: {chosen}, " if chosen else ""
    return (
        f"Data: {read}. {figures['epochs']:g} epochs, {figures['rows']} {examples} a step, {figures['optimizer']}, "
        f"learning rate {figures['learning_rate']:.2g}, reached after {figures['warmup']:.0%} of the run and then "
        f"falling linearly to zero, {also}seed {figures['seed']}; the step with the best {figures['metric']} on dev "
        "was kept. Made with bertwright."
    )


def scores_table(figures: Mapping[str, Any], splits: list[str], *, names: Mapping[str, str] | None = None) -> str:
    """Return the figures of a result.json on each split, with their spread over seeds, as a Markdown table.

    `names` are those to show, by their keys; all of them where not given.
    """
    lines = ["| | " + " | ".join(splits) + " |", "|---" * (len(splits) + 1) + "|"]
    for name, shown in (names or {name: name.replace("_", " ") for name in figures[splits[0]]}).items():
        cells = [_cell(figures, split, name) if name in figures[split] else "" for split in splits]
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(figures: Mapping[str, Any], split: str, name: str) -> str:
    cell = f"{figures[split][name]:.4f}"
    if not figures["spread"]:
        return cell
    mean, spread = figures["mean"][split][name], figures["spread"][split][name]
    return f"{cell} ({len(figures['seeds'])} seeds: {mean:.4f} ± {spread:.4f})"
