"""Says which columns of a table hold the words of sentences and their tags, or texts and the entities in them.

tokens, ner_tags   a list of words, a list of tags (names or numbers) a row     Hugging Face, also as strings in CSV
text, entities     a text, a list of entities from and to a character a row     doccano, Prodigy, spaCy
sentence, word, tag   a word a row, with what says where sentences begin        as spreadsheets have it
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bertwright.corpus.readers.cells import cell_words, list_items, tags_of
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.columns import SINGLES, ColumnsConfig
from bertwright.tasks.tagging.entity_spans import is_entity

WORDS = ("tokens", "words", "token", "word", "form", "forms")
"""Names of the column of words, in the order they are looked for."""
TAGS = (
    "ner_tags",
    "ner",
    "ner_labels",
    "bio_tags",
    "iob_tags",
    "bio",
    "iob",
    "tags",
    "tag",
    "labels",
    "word_labels",
    "label",
    "pos_tags",
    "upos",
    "pos",
    "chunk_tags",
)
"""Names of the column of tags."""
ENTITIES = ("entities", "spans", "ents", "labels", "label", "annotations", "entity")
"""Names of the column of entities in a text."""
BEGINNINGS = ("sentence #", "sentence_id", "sentence id", "sent_id", "sentence_idx", "sentence_number", "sentence")
"""Names of the column that says which sentence a word is in."""
Shape = Literal["lists", "strings", "spans", "words", "text"]


@dataclass(frozen=True)
class TaggedWords:
    """W words of N sentences of a file.

    words   [W] strings    names  the different tags    tags  [W] int64 into names
    counts  [N] int64 words of each sentence            lines [W] int64 the line, or row, of each word, from 1
    unit    what `lines` counts
    label_names   what numbers stand for as tags, where the file has numbers and says it
    """

    path: Path
    words: list[str]
    names: list[str]
    tags: np.ndarray
    counts: np.ndarray
    lines: np.ndarray
    unit: str = "line"
    label_names: tuple[str, ...] | None = None

    def named(
        self, given: Sequence[str] | None, *, else_by: Sequence[str] | None = None, known: Collection[str] = ()
    ) -> TaggedWords:
        """Return the same with names in the place of numbers: those `given`, or the file's own, or `else_by`.

        Numbers that are `known` as tags themselves stay. Raises CorpusError where there are numbers without names, or
        beyond them.
        """
        names = tuple(given or self.label_names or else_by or ())
        if not all(map(is_whole_number, self.names)) or (not names and set(known).issuperset(self.names)):
            return self
        if not names:
            raise CorpusError(
                f"the tags of {self.path} are numbers ({', '.join(sorted(self.names)[:9])}), and it does not say what "
                "they stand for; name them in their order, such as --label-names O,B-PER,I-PER"
            )
        strange = next((place for place, name in enumerate(self.names) if not 0 <= int(name) < len(names)), None)
        if strange is not None:
            line = self.lines[int(np.flatnonzero(self.tags == strange)[0])]
            raise CorpusError(
                f"{self.path} {self.unit} {line:,} has the tag {self.names[strange]}, and the names of tags go "
                f"from 0 to {len(names) - 1} ({', '.join(names)[:80]}); give a name for each tag"
            )
        found = [names[int(name)] for name in self.names]
        different = list(dict.fromkeys(found))
        places = np.array([different.index(name) for name in found], dtype=np.int64)
        return replace(self, names=different, tags=places[self.tags], label_names=names)


def is_whole_number(text: str) -> bool:
    """Say whether a tag is a number of at most nine digits."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) < 10


def are_words(cell: Sequence[Any]) -> bool:
    """Say whether a list holds words: texts, among which may be numbers."""
    plain = all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in cell)
    return plain and (not cell or any(isinstance(one, str) for one in cell))


@dataclass(frozen=True)
class TagColumns:
    """The columns of a table about words: `first` holds words or texts, `tags` tags or entities, if anything does.

    lists     both hold lists
    strings   both hold lists written as a text
    spans     a text, and a list of entities in it
    words     a word and its tag a row; `begins` says of which sentence
    text      a text without entities, in `first`; only where nobody asks for tags
    """

    shape: Shape
    first: str
    tags: str | None = None
    begins: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(name for name in (self.first, self.tags, self.begins) if name is not None)


def find_tag_columns(
    path: Path, rows: Sequence[Mapping[str, Any]], given: ColumnsConfig, *, labelled: bool
) -> TagColumns:
    """Return the columns of a table with these first rows: those `given`, or found by their names and what they hold.

    Raises UsageError where a column given is not there, and CorpusError where nothing says which is which.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    missing = next((name for name in (given.text, given.label) if name is not None and name not in names), None)
    if missing is not None:
        raise UsageError(f"{path} has no column {missing!r}; its columns are {', '.join(names)}")
    found = _Sample(names, rows, given, labelled).find()
    if found is None and not labelled:
        return TagColumns("text", names[0] if names else "")
    if found is None or (labelled and found.tags is None):
        raise CorpusError(
            f"{path} has no columns of words and tags, nor of texts and entities, by their names (its "
            f"columns are {', '.join(names)}); name them with --text-column and --label-column"
        )
    return found


@dataclass(frozen=True)
class _Sample:
    """The first rows of a table, and what is given of its columns."""

    names: list[str]
    rows: Sequence[Mapping[str, Any]]
    given: ColumnsConfig
    labelled: bool

    def find(self) -> TagColumns | None:
        """Return the columns, or None where they are not clear."""
        words = self._named(self.given.text, (*WORDS, *SINGLES), self._is_words)
        tags = self._named(self.given.label, TAGS, self._is_list, words or "")
        if words is not None and tags is not None:
            return TagColumns("lists", words, tags)
        entities = self._named(self.given.label, ENTITIES, self._is_entities)
        text = self._named(self.given.text, (*SINGLES, *WORDS), self._texts) or self._only_text()
        if text is not None and entities is not None:
            return TagColumns("spans", text, entities)
        return TagColumns("lists", words) if words is not None else self._of_strings()

    def _only_text(self) -> str | None:
        """Return the only column of text, where none is given."""
        texts = [name for name in self.names if self._texts(name)]
        return texts[0] if len(texts) == 1 and self.given.text is None else None

    def _of_strings(self) -> TagColumns | None:
        """Return columns whose cells are texts: lists written out, or a word a row."""
        usual = (*WORDS, *SINGLES, "1")
        words = self._named(self.given.text, usual, self._texts)
        if words is None:
            return None
        last = self.names[-1:] if "1" in self.names else []
        tags = self._named(self.given.label, (*TAGS, *last), self._texts, words)
        begins = self._named(None, BEGINNINGS, self._any_cell, words, tags or "")
        called_word = words.strip().lower() in ("word", "token", "form")
        if (begins or (called_word and tags)) and self._single(words) and (tags is None or self._single(tags)):
            return TagColumns("words", words, tags, begins)
        if tags is not None and (self.labelled or self._fit(words, tags)):
            return TagColumns("strings", words, tags)
        quoted = self._all(words, lambda cell: list_items(cell) is not None)
        return TagColumns("strings" if quoted else "text", words)

    def _single(self, name: str) -> bool:
        """Say whether the cells of a column hold one word each."""
        return self._all(name, lambda cell: len(cell_words(cell)) < 2)

    def _fit(self, words: str, tags: str) -> bool:
        """Say whether the cells of two columns hold equally many words and tags, and some several."""
        counts = [len(cell_words(row.get(words) or "")) for row in self.rows]
        fits = all(
            len(tags_of(row.get(tags) or "", count)) == count for row, count in zip(self.rows, counts, strict=True)
        )
        return fits and max(counts) > 1

    def _named(self, given: str | None, usual: Sequence[str], fits: Any, *taken: str) -> str | None:
        """Return the column given, else the first of usual names whose cells fit."""
        if given is not None:
            return given if fits(given) else None
        lower = {name.strip().lower(): name for name in reversed(self.names) if name not in taken}
        return next((lower[name] for name in usual if name in lower and fits(lower[name])), None)

    def _cells(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows if row.get(name) is not None]

    def _all(self, name: str, fits: Any) -> bool:
        cells = [cell for cell in self._cells(name) if cell not in ("", [])]
        return bool(cells) and all(fits(cell) for cell in cells)

    def _any_cell(self, name: str) -> bool:
        return bool(self._cells(name))

    def _first(self, name: str) -> Any:
        """Return the first cell that holds something, which says what a column holds; None where none does."""
        return next((cell for cell in self._cells(name) if cell not in ("", [])), None)

    def _texts(self, name: str) -> bool:
        return isinstance(self._first(name), str)

    def _is_list(self, name: str) -> bool:
        cell = self._first(name)
        return isinstance(cell, list) and not any(isinstance(one, list | dict) for one in cell)

    def _is_words(self, name: str) -> bool:
        cell = self._first(name)
        return isinstance(cell, list) and are_words(cell)

    def _is_entities(self, name: str) -> bool:
        cell = self._first(name)
        if cell is None:
            return [] in self._cells(name)
        return isinstance(cell, list) and all(map(is_entity, cell))
