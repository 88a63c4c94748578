"""Turns the texts of a call and the lines, rows or sentences of a file into questions that fit a model, as needed.

What a file is, its suffix says: lines of text (a tab between the texts of a pair), a table, CoNLL, or SQuAD json.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from bertwright.corpus.readers.formats import format_of, is_table
from bertwright.corpus.readers.lines import STDIN, LineStream
from bertwright.corpus.readers.table import Start, TableStream
from bertwright.errors import CorpusError, UsageError
from bertwright.inference.text_rows import MASK
from bertwright.tasks.columns import PAIRS, QUESTIONS, TOGETHER, ColumnsConfig, find_texts
from bertwright.tasks.multiple_choice.reader import read_choices
from bertwright.tasks.question_answering.reader import squad_questions
from bertwright.tasks.stream import choose_column, stream_options
from bertwright.tasks.tagging.conll import is_conll
from bertwright.tasks.tagging.pretokenize import PreTokenized
from bertwright.tasks.tagging.reader import RowSource, questions_for_tagger
from bertwright.tasks.translation.reader import SOURCES, TARGETS

MOST_LINES = 4096
"""Lines read on at a time."""

Question = str | tuple[str, ...]
"""A text with [MASK] in it, or a pair; for a fine-tuned model the texts of a question, one or two."""
Located = tuple[str, tuple[str, ...]]
"""Where a question stands, such as "texts.txt, line 3", and its texts."""

PAIR_NAMES = {"vector": TOGETHER, "ranking": TOGETHER, "span": QUESTIONS}
"""Names of the columns of a pair, by what a head is about; elsewhere PAIRS."""
WANTED = {
    "pairs": "this model has learned from pairs of texts; give `text TAB text`",
    "single": "this model has learned from single texts; take the tabs out",
    "token": "this model tags the words of single texts; take the tabs out",
    "span": "this model answers questions about a context; give `question TAB context`",
    "vector": "this model says how alike two texts are; give `text TAB text`, or ask `bertwright embed` for vectors",
}
"""What a model reads, by what its head is about, or by whether it has learned from pairs."""
SEVERAL = {
    "choice": (
        2,
        "choice",
        "this model chooses between endings of a context; give `context TAB ending TAB ending ...`",
    ),
    "ranking": (1, "passage", "this model ranks passages for a query; give `query TAB passage TAB passage ...`"),
}
"""Of models whose questions are a text and several others: how few of those, what one is called, what to give."""


class Identified(tuple[str, ...]):
    """A question, its context and the name it has in its file."""

    __slots__ = ()


class InputFile:
    """The questions of a file to a model: where each stands, and its texts.

    >>> # needs a file
    >>> list(InputFile(Path("pairs.csv"), head_type="row", pairs=True))  # doctest: +SKIP
    [('pairs.csv, row 1', ('It rains.', 'It pours.'))]
    """

    def __init__(
        self, file: Path, *, head_type: str | None, pairs: bool | None = None, columns: ColumnsConfig | None = None
    ) -> None:
        """Open nothing yet; `head_type` and `pairs` are those of the model (see `Predictor`)."""
        self.file, self.head_type, self.pairs, self.columns = file, head_type, pairs, columns or ColumnsConfig()
        self._stream: LineStream | TableStream | RowSource | None = None

    @property
    def progress(self) -> float | None:
        """How much of the file has been read, 0 to 1; None where nobody knows."""
        return None if self._stream is None else self._stream.progress

    def __iter__(self) -> Iterator[Located]:
        """Yield the questions; raises CorpusError where the file cannot be read or is empty."""
        place = "<stdin>" if self.file == STDIN else str(self.file)
        unit, questions = self._open()
        number = 0
        for number, texts in questions:
            yield f"{place}, {unit} {number:,}", texts
        if not number:
            raise CorpusError(f"{place} is empty; give a file with a text a line, or a table of texts")

    def _open(self) -> tuple[str, Iterable[tuple[int, tuple[str, ...]]]]:
        """Return what the questions of the file are called, and those with their numbers."""
        is_file = self.file != STDIN
        if is_file and is_conll(self.file) and self.head_type != "token":
            raise UsageError(f"{self.file} is a CoNLL file of words, which only a model that tags can predict")
        if (
            is_file
            and self.head_type == "token"
            and (tagged := questions_for_tagger(self.file, self.columns)) is not None
        ):
            unit, questions, self._stream = tagged
            return unit, questions
        if self.head_type == "span" and ".json" in self.file.suffixes:
            return "question", enumerate(map(Identified, squad_questions(self.file, self.columns.encoding)), start=1)
        if is_file and is_table(self.file):
            return "row", enumerate(self._choices() if self.head_type == "choice" else self._rows(), start=1)
        if self.columns.names():
            raise UsageError(f"{self.file} holds a text a line and has no columns; leave --text-column out")
        if is_file and format_of(self.file) not in ("txt", "md", None):
            raise CorpusError(f"{self.file} cannot be read as questions; give .txt, .tsv, .csv, .jsonl or .parquet")
        self._stream = lines = LineStream(self.file, most=MOST_LINES, encoding=self.columns.encoding)
        return "line", enumerate(map(self._texts, chain.from_iterable(lines)), start=1)

    def _texts(self, line: str) -> tuple[str, ...]:
        return (line,) if self.head_type == "translation" else tuple(line.split("\t"))

    def _choices(self) -> Iterable[tuple[str, ...]]:
        return read_choices(self.file, self.columns, labelled=False).questions()

    def _rows(self) -> Iterator[tuple[str, ...]]:
        usual = (*SOURCES, *TARGETS) if self.head_type == "translation" else ()
        options = stream_options(*usual, *self.columns.names(), encoding=self.columns.encoding)
        self._stream = table = TableStream(self.file, self._columns_read, options)
        for columns in table:
            yield from zip(*columns, strict=True)

    def _columns_read(self, start: Start) -> tuple[str, ...]:
        """Return the columns that hold the questions: for a translator one, named or of a usual name."""
        if self.head_type != "translation":
            names = PAIR_NAMES.get(self.head_type or "", PAIRS)
            return find_texts(start.table, self.columns, pairs=self.pairs, names=names)
        if self.columns.pair:
            raise UsageError("a model that translates takes single texts; leave --pair-column out")
        lower = {name.strip().lower(): name for name in reversed(start.table.columns)}
        usual = next((lower[name] for name in SOURCES if name in lower), None)
        return (choose_column(start, self.columns.text or usual),)


def task_questions(
    texts: Sequence[str],
    *,
    pair: bool,
    located: Iterable[Located] = (),
    head_type: str | None = "row",
    pairs: bool | None = None,
) -> Iterator[tuple[str, ...]]:
    """Yield the questions to a fine-tuned model: texts, or with `pair` two of them, and those `located` in a file.

    The texts of a model of spans are a question and its context, those of a model of choices a context and its choices;
    two texts are a pair for a model that has learned from `pairs`. Raises UsageError for what is none of this, and
    CorpusError where a file cannot be read.
    """
    _check_pair(texts, pair=pair)
    together = pair or head_type in ("span", "choice", "ranking") or (pairs is True and len(texts) == 2)
    yield from [tuple(texts)] if together and texts else [(text,) for text in texts]
    if head_type in SEVERAL:
        yield from _with_others(located, *SEVERAL[head_type])
    else:
        yield from _of_one_kind(located, pairs=True if pair else pairs, head_type=head_type or "row")


def _with_others(located: Iterable[Located], fewest: int, thing: str, wanted: str) -> Iterator[tuple[str, ...]]:
    """Yield questions of a text and at least `fewest` others that are each a `thing`; `wanted` says what to give."""
    for where, texts in located:
        if len(texts) <= fewest:
            has = ["no text", f"no {thing}s", f"one {thing}"][len(texts) if any(texts) else 0]
            raise UsageError(f"{where} has {has}, and {wanted}")
        yield texts


def _of_one_kind(located: Iterable[Located], *, pairs: bool | None, head_type: str) -> Iterator[tuple[str, ...]]:
    """Yield questions that are all pairs, or all single texts; an empty line is either, and empty."""
    reason = "" if pairs is None else WANTED.get(head_type, WANTED["pairs" if pairs else "single"])
    blank = 0
    for where, texts in located:
        if pairs is None and texts == ("",):
            blank += 1
            continue
        if pairs is None:
            pairs = len(texts) > 1
            reason = f"{where} is {'a pair' if pairs else 'a single text'}; ask one kind at a time"
        yield from [("", "") if pairs else ("",)] * blank
        blank = 0
        yield _fit(where, texts, pairs=pairs, reason=reason)
    yield from [("",)] * blank


def _fit(where: str, texts: tuple[str, ...], *, pairs: bool, reason: str) -> tuple[str, ...]:
    """Return the texts of a question as a model reads them; `reason` says what that is."""
    if pairs and texts == ("",):
        return "", ""
    if isinstance(texts, PreTokenized) or len(texts) == 1 + pairs or (pairs and isinstance(texts, Identified)):
        return texts
    given = {1: "a single text", 2: "a pair with a tab between"}.get(len(texts), f"{len(texts)} texts, tabs between,")
    raise UsageError(f"{where} is {given} and {reason}: {texts[0][:60]!r}")


def masked_questions(texts: Sequence[str], *, pair: bool, located: Iterable[Located] = ()) -> Iterator[Question]:
    """Yield the questions to a pre-trained model: a text for each with [MASK], two texts for a pair.

    An empty line is no question, and has an empty answer. Raises what `task_questions` raises.
    """
    _check_pair(texts, pair=pair)
    if len(texts) == 2 and (pair or not any(MASK in text for text in texts)):
        yield texts[0], texts[1]
        texts = ()
    for text in texts:
        if MASK not in text:
            raise UsageError(
                f'"{text}" has no {MASK}: write {MASK} in place of the word to guess, '
                "or give two texts to ask whether the second follows the first"
            )
    yield from texts
    for where, parts in located:
        if len(parts) == 2:
            yield parts
        elif parts == ("",):
            yield ("", "") if pair else ""
        elif len(parts) == 1 and not pair and MASK in parts[0]:
            yield parts[0]
        else:
            wanted = "two texts with one tab between" if pair else f"a text with {MASK}, or two texts and a tab"
            raise UsageError(f"{where} should hold {wanted}: {parts[0][:60]!r}")


def _check_pair(texts: Sequence[str], *, pair: bool) -> None:
    if pair and texts and len(texts) != 2:
        raise UsageError(f"--pair takes two texts, not {len(texts)}; put more pairs in a file (--input), tab between")
