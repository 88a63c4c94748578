"""Opens models to be looked into when somebody first does, and has one question at a time answered about each.

A model is opened a second time for this, in float32: what serves is laid out for speed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from bertwright.errors import InputError, ModelError
from bertwright.server.refusal import Refusal

if TYPE_CHECKING:
    from bertwright.inspection.inspector import Inspector

T = TypeVar("T")
MOST_WAITING = 16
"""Questions that are answered or wait; any more are refused."""
ENDPOINT = "inspect"
"""Where the page asks, beside its own address."""


class Inside:
    """The insides of served models, by their names."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """Open nothing yet; `folders` are those of models that can be looked into."""
        self.folders = folders
        self._opened: dict[str, Inspector] = {}
        self._opening = Lock()
        self._waiting = 0

    async def ask(self, name: str, question: Callable[[Inspector], T]) -> T:
        """Return what a model's inspector says; raises Refusal where it has none, or does not take the text."""
        if name not in self.folders:
            raise Refusal(f"the model {name!r} cannot be looked into", "Backend", counted_as="model_type")
        if self._waiting >= MOST_WAITING:
            raise Refusal("others look inside, too; try again later", "Overloaded")
        self._waiting += 1
        try:
            return await asyncio.to_thread(lambda: question(self._inspector(name)))
        except ModelError:
            raise
        except InputError as error:
            raise Refusal(str(error)) from error
        finally:
            self._waiting -= 1

    async def page(self) -> tuple[str, str] | None:
        """Return the page that looks into the models, and its Content-Security-Policy; None where none can be."""
        if not self.folders:
            return None
        return await asyncio.to_thread(self._page)

    def _page(self) -> tuple[str, str]:
        from bertwright.inspection.page import page_content, page_html, page_policy

        content = page_content([self._inspector(name) for name in self.folders], reads=False)
        return page_html(content, endpoint=ENDPOINT), page_policy()

    def _inspector(self, name: str) -> Inspector:
        from bertwright.inspection.inspector import open_inspector

        with self._opening:
            if name not in self._opened:
                self._opened[name] = open_inspector(self.folders[name], name=name)
            return self._opened[name]
