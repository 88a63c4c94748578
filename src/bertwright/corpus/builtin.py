"""Makes the corpus `builtin:python-docs` from the documentation of the Python installation it runs in.

Its documents are the topics of Python's own help and, for each module of the standard library and of some packages
that bertwright depends on, the docstrings of the module, its classes and functions in the order of the source.
The sources are read as text, never imported; the same installation gives the same text.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import zstandard

from bertwright.corpus.prose import prose_of
from bertwright.files import written_aside

PYTHON_DOCS = "builtin:python-docs"
PACKAGES = ("torch", "numpy", "matplotlib", "pyarrow", "pydantic", "cyclopts", "rich", "networkx")
"""The packages with the most documentation among those installed with bertwright; one that is absent is passed over."""
WORTH_A_HELPER = 300
"""Source files from which on a second process saves more than the 0.2 s that it takes to start."""
SHORTEST_DOCUMENT = 200
"""Characters under which a module's docstrings are too few for a pair of segments."""

_PASSED_OVER = re.compile(
    r"tests?$|.*_tests?$|testing$|__pycache__$|site-packages$|dist-packages$|idlelib$|lib2to3$|turtledemo$|_inductor$|"
    r"_vendor$|encodings$|pydoc_data$|ensurepip$|_internal$|f2py$|_pyrepl$"
)
_TRIPLE_QUOTED = re.compile(r'("""|\'\'\')(.*?)(?<!\\)\1', re.DOTALL)


def write_python_docs(folder: Path, packages: Iterable[str] = PACKAGES) -> Path:
    """Write the corpus as one .jsonl.zst file in `folder`, whole or not at all, and return its path.

    A line is {"id": the module or topic, "text": its prose, a paragraph a line}. About 5.5 MB.
    """
    path = folder / "python-docs.jsonl.zst"
    with written_aside(path) as aside, zstandard.open(aside, "wt", encoding="utf-8") as file:
        for name, text in python_docs(packages):
            file.write(json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n")
    return path


def python_docs(packages: Iterable[str] = PACKAGES) -> Iterator[tuple[str, str]]:
    """Yield the name and prose of every topic and module; a paragraph that occurred before is left out."""
    standard = Path(sysconfig.get_path("stdlib"))
    seen: set[int] = set()
    for name, found in _documents(standard, packages):
        paragraphs = {hash(paragraph): paragraph for paragraph in found}
        text = "\n".join(paragraph for key, paragraph in paragraphs.items() if key not in seen)
        seen.update(paragraphs)
        if len(text) >= SHORTEST_DOCUMENT:
            yield name, text


def _documents(standard: Path, packages: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the paragraphs of prose of every topic and module."""
    for name, texts in topics(standard / "pydoc_data" / "topics.py"):
        yield name, [paragraph for text in texts for paragraph in prose_of(text)]
    roots = [standard, *(root for package in packages if (root := _package_folder(package)) is not None)]
    sources = [(root, source) for root in roots for source in _sources(root)]
    found = paragraphs_of_all([source for _, source in sources])
    for (root, source), paragraphs in zip(sources, found, strict=True):
        place = source.relative_to(root if root is standard else root.parent).with_suffix("")
        yield ".".join(place.parts), paragraphs


def paragraphs_of(source: Path) -> list[str]:
    """Return the paragraphs of prose in the docstrings of one source file, in order."""
    return [paragraph for docstring in docstrings_of(source) for paragraph in prose_of(docstring)]


def paragraphs_of_all(sources: Sequence[Path]) -> list[list[str]]:
    """Return the paragraphs of each file; of many files, a helper process reads every other one where there are cores.

    A helper that does not start, or ends early, changes nothing but the time: its files are then read here.
    """
    if len(sources) < WORTH_A_HELPER or (os.cpu_count() or 1) == 1:
        return [paragraphs_of(source) for source in sources]
    found: list[list[str]] = [[] for _ in sources]
    with ThreadPoolExecutor(1) as thread:
        helper = thread.submit(_ask_helper, sources[1::2])
        found[::2] = [paragraphs_of(source) for source in sources[::2]]
        found[1::2] = helper.result() or [paragraphs_of(source) for source in sources[1::2]]
    return found


def _ask_helper(sources: Sequence[Path]) -> list[list[str]] | None:
    """Let a process read some files; return their paragraphs, or None if it failed.

    The process is Python with this very file and nothing else of the caller: no script is run a second time.
    """
    command = [sys.executable, "-m", "bertwright.corpus.builtin"]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    request = json.dumps([str(source) for source in sources]).encode()
    with suppress(OSError, ValueError, subprocess.CalledProcessError):
        done = subprocess.run(
            command, input=request, capture_output=True, env=os.environ | {"PYTHONPATH": paths}, check=True
        )
        found: list[list[str]] = json.loads(done.stdout)
        return found if len(found) == len(sources) else None
    return None


def help_out() -> None:
    """Read a JSON list of files from stdin, and write the paragraphs of each to stdout, as JSON too."""
    sources = json.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(json.dumps([paragraphs_of(Path(source)) for source in sources]).encode())


def _package_folder(package: str) -> Path | None:
    """Return the folder of an installed package; finding the spec of a top-level package runs nothing of it."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _PASSED_OVER.match(name))
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py") and "test" not in name)


def topics(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the topics of Python's help, (name, [text]), from the source of `pydoc_data.topics`."""
    if not path.is_file():
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            found: dict[str, str] = ast.literal_eval(node.value)
            yield from ((f"help.{name}", [text]) for name, text in sorted(found.items()))


def docstrings_of(path: Path) -> Iterator[str]:
    """Yield the docstrings of one source file in order: the triple-quoted strings that begin a line.

    They are scanned for, as parsing whole files takes 10 s for what this finds in 1; so texts handed to a call, such
    as `add_docstr(torch.abs, ...)` for functions written in C, are found too. A file that is not UTF-8 has none.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    for match in _TRIPLE_QUOTED.finditer(source):
        before = source[source.rfind("\n", 0, match.start()) + 1 : match.start()].strip().lower()
        if before in ("", "u", "r"):
            raw = before == "r" or "\\" not in match[2]
            yield match[2] if raw else _evaluated(match[0])


def _evaluated(literal: str) -> str:
    """Return the text that a string literal stands for, or "" where it is none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return str(ast.literal_eval(literal))
    except (SyntaxError, ValueError):
        return ""


if __name__ == "__main__":
    help_out()
