"""Keeps on disk how far a preparation has come, so that the same command, started again, goes on from there.

The journal is written after the shards and the files of hashes that it names, and those of the journal before are
removed after it. So whenever the process ends, the journal and all it names are whole and of one moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from bertwright.corpus.filters.language import LanguageChoice
from bertwright.corpus.manifest import SPLITS
from bertwright.errors import DataError, OutputExistsError
from bertwright.files import read_json, refuse_existing, remove, write_json
from bertwright.log import note

JOURNAL = ".progress.json"
Position = tuple[int, int, int]


@dataclass
class Journal:
    """What is done of one preparation.

    settings     the options and inputs; a journal is only taken up with the same settings
    tokenizer    what is known of the finished tokenizer, empty before
    position     (source, file, documents of that file) read up to the last shards
    memory       what is remembered of the documents up to `position`, by what it is for: names of files and counts
    shards       the finished shards of each split, as the manifest lists them
    counts       documents and lines dropped by reason, bytes of text
    examples     how the first document or line dropped for a reason begins
    frequencies  how often each token id occurs in the train split
    seconds      time spent by stage
    language_by  what the language was chosen by
    """

    settings: dict[str, Any]
    tokenizer: dict[str, Any] = field(default_factory=dict)
    position: Position = (0, 0, 0)
    memory: dict[str, Any] = field(default_factory=dict)
    shards: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    frequencies: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    language_by: str = "given"

    def save(self, out: Path) -> None:
        """Write the journal to the DATA folder `out`."""
        write_json(out / JOURNAL, vars(self))

    def spent(self, seconds: Mapping[str, float]) -> None:
        """Add to the time spent on some stages."""
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time inside to that spent on a stage."""
        began = perf_counter()
        yield
        self.spent({stage: perf_counter() - began})

    def choose_language(self, choice: LanguageChoice) -> None:
        """Keep a language that was found, and print what it was found by."""
        if choice.grounds != "given":
            self.settings["language"], self.language_by = choice.code, choice.grounds
            note(f"language {choice.statement} (--language to change it)")
            if choice.advice:
                note(choice.advice)

    def total(self, split: str, what: str) -> int:
        """Return the sum of a figure over the shards of a split."""
        return sum(shard[what] for shard in self.shards[split])


def open_journal(out: Path, settings: dict[str, Any]) -> Journal:
    """Return the journal of an unfinished preparation in `out`, or a new one where `out` is empty or absent.

    A language that is not given (None) is the one the journal has. Raises OutputExistsError where `out` holds a
    finished one, one with other settings, or anything else.
    """
    if (out / "manifest.json").exists():
        remove(out / JOURNAL)  # where a preparation was killed after its last write but one
    refuse_taken(out)
    if not (out / JOURNAL).exists():
        return Journal(settings)
    try:
        saved = read_json(out / JOURNAL)
        journal = Journal(**saved)
        journal.position = _position(saved["position"])
        journal.counts = Counter(saved["counts"])
        given = {name: value for name, value in settings.items() if name != "language" or value is not None}
        changed = [name for name in given if (journal.settings.get(name) or None) != (given[name] or None)]
    except (OSError, ValueError, OverflowError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{out / JOURNAL} is damaged ({error}); delete {out} and prepare the data again") from error
    if changed:
        was = "; ".join(f"{name} was {journal.settings.get(name)!r}, now {settings[name]!r}" for name in changed)
        raise OutputExistsError(
            f"{out} holds an unfinished preparation with other settings ({was}); "
            "give the same settings to continue it, another --out, or delete it"
        )
    return journal


def refuse_taken(out: Path) -> None:
    """Raise OutputExistsError where `out` holds finished data, or anything else but an unfinished preparation."""
    if (out / "manifest.json").exists():
        raise OutputExistsError(f"{out} already holds prepared data; give another --out, or --overwrite to replace it")
    if not (out / JOURNAL).exists():
        refuse_existing(out, instead="give another --out, or delete it first")


def _position(saved: list[int]) -> Position:
    source, file, documents = (int(place) for place in saved)
    return source, file, documents
