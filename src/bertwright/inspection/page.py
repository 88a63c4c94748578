"""Turns what inspectors say into one HTML file with its script and style in it, which opens offline, or at a server.

Texts reach the page as JSON in a data block, in which no "<" stands, and are shown as text nodes alone; its
Content-Security-Policy lets no script run but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from bertwright.files import read_json
from bertwright.inspection.inspector import Inspector

WEB = Path(__file__).parent / "web"
SCRIPTS = ("base.js", "texts.js", "inside.js", "reasons.js", "page.js")
"""Parts of the one script of the page, in order."""
Done = Callable[[str], None]
"""Is called with each text that is done."""


def page_content(inspectors: Sequence[Inspector], *, reads: bool = True, done: Done = lambda _: None) -> dict[str, Any]:
    """Return what a page holds of models, each on its texts; without `reads` no text is computed."""
    models = []
    for inspector in inspectors:
        readings = []
        for texts in inspector.texts if reads else ():
            readings.append(inspector.read(*texts))
            done(texts[0])
        models.append(
            {"about": inspector.about(), "readings": readings, "texts": [list(one) for one in inspector.texts]}
        )
    return {"models": models}


def page_html(content: Mapping[str, Any], *, endpoint: str | None = None, runs: str | None = None) -> str:
    """Return the page of a content; where there is an `endpoint`, it asks there for what is not in it.

    `runs` is the address of a page of runs, which it links to.

    It posts {"text", "second", "model", "seed"} and expects what `Inspector.read` returns, or with "others", a list of
    texts, {"alike": what `Inspector.alike` returns}; or {"error": a sentence}.
    """
    template, style, script = _files()
    names = " | ".join(model["about"]["name"] for model in content["models"])
    values = {
        "policy": page_policy(),
        "title": escape(f"bertwright: {names}"),
        "style": style,
        "content": _data({**content, "endpoint": endpoint, "runs": runs}),
        "script": script,
    }
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: values[found[1]], template)


def page_policy() -> str:
    """Return the Content-Security-Policy of the page: its own style and script, and data of its own server."""
    _, style, script = _files()
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    )


@lru_cache(maxsize=1)
def _files() -> tuple[str, str, str]:
    """Return template, style and script; the words of both languages stand in the script."""
    template, style, *parts = ((WEB / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", *SCRIPTS))
    words = _data(read_json(WEB / "words.json"))
    script = "".join(parts).replace("/* words */ {}", words)
    return template, style, f'"use strict";\n(() => {{\n{script}}})();\n'


def _data(value: Any) -> str:
    """Return JSON that can stand in a script of HTML."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
