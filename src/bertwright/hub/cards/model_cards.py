"""Turns the figures of a run into the model card of its folder: the README.md that says what it is and how to use it.

The text of each kind of card is a template in templates/; the figures are those of result.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from bertwright.hub.mappings.electra_names import DISCRIMINATOR
from bertwright.hub.mappings.known import mapping_of
from bertwright.hub.mappings.modernbert_names import MODERN
from bertwright.model.build import ARCHITECTURES
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


def model_card(name: str, figures: Mapping[str, Any]) -> str:
    """Return the card, in Markdown, of a pre-trained model called `name`; figures that are not there are left out.

    >>> model_card("run", {"language": "en"}).splitlines()[:2]
    ['---', 'language: en']
    """
    mapping = mapping_of(ARCHITECTURES[figures.get("architecture", "bert")].config_type)
    return render("pretrained.md", name=name, figures=figures, what=mapping.what, written_as=mapping.written_as)


def discriminator_card(name: str, figures: Mapping[str, Any]) -> str:
    """Return the card of an ELECTRA that finds replaced tokens, from the figures of the result.json of its run."""
    what, written_as = DISCRIMINATOR.what, DISCRIMINATOR.written_as
    return render("replaced.md", name=name, figures=figures, what=what, written_as=written_as)


def next_sentence_card(name: str, figures: Mapping[str, Any]) -> str:
    """Return the card of a ModernBERT with its next-sentence head, from the figures of the result.json of its run."""
    return render("next_sentence.md", name=name, figures=figures, what=MODERN.what)


def task_card(name: str, figures: Mapping[str, Any], *, names: Mapping[str, str] | None = None) -> str:
    """Return the card of a model fine-tuned for a task with a head.

    `names` are the figures to show, by their keys, and what each is called; all of them where not given.
    """
    part = TASKS[figures["task"]].head_type
    return render("task.md", name=name, figures=figures, names=names, pipeline=PIPELINES[part], cls=CLASSES.get(part))


def sentence_card(name: str, figures: Mapping[str, Any], *, pooling: str, normalize: bool) -> str:
    """Return the card of a model of sentence vectors, which sentence-transformers loads."""
    return render("sentences.md", name=name, figures=figures, pooling=pooling, normalize=normalize)


def translation_card(name: str, figures: Mapping[str, Any]) -> str:
    """Return the card of a translation model: what it translates, how well, and how it was made."""
    return render("translation.md", name=name, figures=figures)


def render(template: str, **values: Any) -> str:
    """Return a template of this folder filled with values, its sections one empty line apart."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # here: only a run that is done writes a card

    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"plain": plain, "code": code, "name_of_path": lambda path: PurePath(path).name}
    return re.sub(r"\n{3,}", "\n\n", environment.get_template(template).render(values)).rstrip("\n") + "\n"


def plain(text: str) -> str:
    """Return text as Markdown shows it in a line or a cell of a table, whatever is in it.

    >>> plain("<b> | x")
    '&lt;b> \\\\| x'
    """
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").splitlines())


def code(text: str) -> str:
    """Return text as code in a line of Markdown.

    >>> code("train.tsv")
    '`train.tsv`'
    """
    return f"`{' '.join(text.replace('`', chr(39)).splitlines())}`"
