"""Turns texts with entities from one character to another into words and tags (B-TYPE, I-TYPE, O), row after row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertwright.errors import CorpusError
from bertwright.log import note
from bertwright.tasks.tagging.pretokenize import word_spans

STARTS = ("start", "start_offset", "start_char", "begin")
ENDS = ("end", "end_offset", "end_char", "stop")
TYPES = ("label", "type", "entity_type", "entity_group", "entity", "tag", "labels")
TEXTS = ("text", "word", "mention")
"""Keys of an entity: where it starts, the character after its last, its type, and its text."""


def is_entity(value: Any) -> bool:
    """Say whether a value has the form of an entity: [start, end, type], or an object with such keys."""
    if isinstance(value, Mapping):
        return any(key in value for key in STARTS) and any(key in value for key in ENDS)
    return isinstance(value, list | tuple) and len(value) == 3 and isinstance(value[2], str)


def from_label_studio(row: dict[str, Any]) -> dict[str, Any]:
    """Return a task as Label Studio exports it as a row of its text and entities; any other row as it is.

    Of several annotations the first that was not cancelled counts.
    """
    data, annotations = row.get("data"), row.get("annotations")
    if not isinstance(data, dict) or not isinstance(annotations, list):
        return row
    text = data.get("text", next((value for value in data.values() if isinstance(value, str)), None))
    held = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    results = (held[0].get("result") or []) if held else []
    values = [one.get("value") for one in results if isinstance(one, dict)]
    return {"text": text, "entities": [value for value in values if is_entity(value)]}


@dataclass
class TextTagger:
    """Cuts texts into words and gives each its tag, and counts what of the entities that does not keep.

    widened      entities that begin or end within a word, and now have all of it
    overlapping  entities left out because a longer one has words of theirs
    """

    path: Path
    widened: int = 0
    overlapping: int = 0

    def tag(self, row: int, text: str, entities: Sequence[Any]) -> tuple[list[str], list[str]]:
        """Return the words of a text and their tags; raises CorpusError naming the row where an entity is not in it."""
        spans = word_spans(text)
        tags = ["O"] * len(spans)
        found = [self._read(row, text, entity) for entity in entities]
        for start, end, kind in sorted(found, key=lambda one: (one[0] - one[1], one[0])):
            places = [place for place, (begin, stop) in enumerate(spans) if begin < end and stop > start]
            if any(tags[place] != "O" for place in places):
                self.overlapping += 1
                continue
            self.widened += spans[places[0]][0] < start or spans[places[-1]][1] > end
            tags[places[0] : places[-1] + 1] = [f"B-{kind}", *[f"I-{kind}"] * (len(places) - 1)]
        return [text[begin:end] for begin, end in spans], tags

    def _read(self, row: int, text: str, entity: Any) -> tuple[int, int, str]:
        """Return where an entity starts and ends, blanks at its ends left out, and its type."""
        start, end, kind, written = _parts(entity)
        where = f"{self.path} row {row:,}"
        whole = type(start) is int and type(end) is int and isinstance(kind, str) and kind.strip()
        if not whole:
            raise CorpusError(f"{where} has an entity without start, end and label: {str(entity)[:80]}; fix it")
        if not 0 <= start < end <= len(text) or not text[start:end].strip():
            raise CorpusError(
                f"{where} has an entity from character {start} to {end}, where its text of {len(text)} characters has "
                "no words; count characters from 0, the end not included"
            )
        here = text[start:end]
        if isinstance(written, str) and written.strip() and written.split() != here.split():
            raise CorpusError(
                f"{where} has the entity {written[:40]!r}, but {here[:40]!r} from character {start} to {end}; count "
                "characters (not bytes) from 0, the end not included"
            )
        return start + len(here) - len(here.lstrip()), end - len(here) + len(here.rstrip()), kind.strip()

    def report(self) -> None:
        """Note what of the entities is not as the file has it."""
        if self.widened:
            note(f"{self.path}: {self.widened:,} entities begin or end within a word, and are taken with all of it")
        if self.overlapping:
            note(f"{self.path}: {self.overlapping:,} entities lie in longer ones, or over others, and were left out")


def _parts(entity: Any) -> tuple[Any, Any, Any, Any]:
    """Return start, end, type and text of an entity, None for what it lacks."""
    if not isinstance(entity, Mapping):
        return (*entity, None) if is_entity(entity) else (None, None, None, None)
    start, end, kind, text = (
        next((entity[key] for key in keys if entity.get(key) is not None), None)
        for keys in (STARTS, ENDS, TYPES, TEXTS)
    )
    return start, end, kind[0] if isinstance(kind, list) and len(kind) == 1 else kind, text
