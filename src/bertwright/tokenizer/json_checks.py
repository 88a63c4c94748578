"""Turns the content of a tokenizer.json into one that native code can be given, or refuses it.

tokenizers and tokie free long tokens by recursion, which ends the process where they have some 10,000 letters, and pad
to whatever length a file asks for. So what a file says is looked at here before either of them reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bertwright.errors import TokenizerError

LARGEST_FILE = 1 << 28
"""Bytes; the largest published tokenizer.json has 35 million."""
LONGEST_STRING = 2000
"""Bytes of a token or another string: a thread of 2 MB overflows at some 4,000. The longest published token has 256."""
LONGEST_WORD = 1000
"""Letters of a word that WordPiece may be asked to look up: its time grows with their square. BERT has 100."""
MOST_GROWTH = 1000
"""Characters that all replacements of a normaliser together may make of one."""
UNUSED = ("padding", "truncation")
FREE_LENGTH = ("precompiled_charsmap",)
"""Keys of strings that are data, not text."""


def checked_json(values: Any, file: Path) -> dict[str, Any]:
    """Return what a tokenizer.json holds, without padding and truncation, which are never used.

    Raises TokenizerError where native code could not be given it.
    """
    if not isinstance(values, dict):
        raise TokenizerError(f"{file} should hold a JSON object; give a tokenizer.json saved by tokenizers")
    longest = max(_strings(values), key=len, default="")
    if len(longest.encode("utf-8", "surrogatepass")) > LONGEST_STRING:
        raise TokenizerError(
            f"{file} has a token or another string of {len(longest):,} characters, '{longest[:20]}...', and "
            f"{LONGEST_STRING:,} bytes are read at most; give a tokenizer trained on text with blanks in it"
        )
    model = values.get("model")
    word = model.get("max_input_chars_per_word") if isinstance(model, dict) else None
    if isinstance(word, (int, float)) and word > LONGEST_WORD:
        raise TokenizerError(
            f"{file} has max_input_chars_per_word {word:,}; give {LONGEST_WORD:,} or fewer, in published ones it is 100"
        )
    growth = 1
    for step in _collections([values.get("normalizer"), values.get("decoder")]):
        if isinstance(step, dict):
            growth *= max(1, len(str(step.get("content") or step.get("prepend") or "")))
    if growth > MOST_GROWTH:
        raise TokenizerError(f"{file} has replacements that together make one character {growth:,}; leave them out")
    return {name: value for name, value in values.items() if name not in UNUSED}


def _strings(values: Any) -> Iterator[str]:
    """Yield the longest string of each collection in a tree of JSON, keys included."""
    for value in _collections(values, passed_over=FREE_LENGTH):
        if isinstance(value, dict):
            yield max(value, key=len, default="")
        inner = [one for key, one in value.items() if key not in FREE_LENGTH] if isinstance(value, dict) else value
        yield max((one for one in inner if isinstance(one, str)), key=len, default="")


def _collections(values: Any, *, passed_over: Sequence[str] = ()) -> Iterator[dict[str, Any] | list[Any]]:
    """Yield every object and list in a tree of JSON, without those under keys that are passed over."""
    waiting = [values]
    while waiting:
        value = waiting.pop()
        yield value
        inner = [one for key, one in value.items() if key not in passed_over] if isinstance(value, dict) else value
        waiting += [one for one in inner if isinstance(one, (dict, list))]
