"""Opens the inside of a served model when it is first asked for, and lets one request at a time look into it.

The model is read once more, as it was trained: the weights that answer are laid out for speed, and show no attention.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from bertwright.errors import BertwrightError, InputError
from bertwright.log import note
from bertwright.server.refusal import Refusal

if TYPE_CHECKING:
    from bertwright.inspection.inspector import Inspector

T = TypeVar("T")
MOST_WAITING = 8
"""Requests that may wait to look into a model: each takes some hundred passes."""


class Inside:
    """The inside of the model of a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        """Read nothing yet."""
        self.folder, self.name = folder, name
        self._lock, self._waiting = Lock(), 0
        self._opened: Inspector | None = None

    async def ask(self, work: Callable[[Inspector], T]) -> T:
        """Return what `work` finds; raises Refusal where it refuses a text, or too many wait."""
        if self._waiting >= MOST_WAITING:
            raise Refusal(f"{self._waiting} requests wait to look into {self.name!r}; try again later", "Overloaded")
        self._waiting += 1
        try:
            return await asyncio.to_thread(self._find, work)
        finally:
            self._waiting -= 1

    def _find(self, work: Callable[[Inspector], T]) -> T:
        try:
            return work(self.inspector())
        except InputError as error:
            raise Refusal(str(error)) from error
        except BertwrightError as error:  # names the folder, which is nobody's business
            note(f"error: {error}")
            raise Refusal(f"the model {self.name!r} cannot be looked into", "Backend") from error

    def inspector(self) -> Inspector:
        """Return the inspector, which is opened at the first call."""
        from bertwright.inspection.inspector import open_inspector

        with self._lock:
            if self._opened is None:
                self._opened = open_inspector(self.folder, name=self.name)
            return self._opened
