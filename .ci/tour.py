"""Runs the code of each chapter of docs/tour, and writes what it printed and drew into the English and Chinese page.

    python .ci/tour.py quickstart                  # all chapters, on the folder of `bertwright quickstart`
    python .ci/tour.py quickstart 04-self-attention 09-loss

The blocks of a chapter run in order in one process: `python` ones share their names, each line of an `sh` one is a call
of bertwright. What a block prints stands in the `text` block after it. Pictures that it saves go to docs/tour/pictures.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
ENGLISH, CHINESE = DOCS / "tour", DOCS / "zh" / "tour"
PICTURES = ENGLISH / "pictures"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)
"""A block of code: its language, the code, and what stands after it as its output."""


def chapters() -> list[str]:
    """Return the names of the chapters, in order."""
    return sorted(page.stem for page in ENGLISH.glob("[0-9]*.md"))


def run_chapter(text: str, short: Mapping[str, str] | None = None) -> tuple[list[str], dict[str, Any]]:
    """Return what each block of a page prints, and the names its Python blocks left; runs in the current folder.

    Each key of `short` is replaced by its value in the code first.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for language, code, _ in BLOCK.findall(text):
        for long, brief in (short or {}).items():
            code = code.replace(long, brief)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            run_python(code, names) if language == "python" else run_commands(code)
        outputs.append("".join(f"{line.rstrip()}\n" for line in printed.getvalue().rstrip().splitlines()))
    return outputs, names


def run_python(code: str, names: dict[str, Any]) -> None:
    """Run Python code with these names, and close the pictures it has drawn."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    exec(compile(code, "chapter", "exec"), names)
    pyplot.close("all")


def run_commands(code: str) -> None:
    """Run lines that call bertwright; raises RuntimeError where one does not end well."""
    from bertwright.cli.main import main

    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and (words[0] != "bertwright" or main(words[1:]) != 0):
            raise RuntimeError(f"this command failed: {line}")


def with_outputs(text: str, outputs: list[str]) -> str:
    """Return a page with these outputs after its blocks of code, in order; none after a block that prints nothing."""
    given = iter(outputs)

    def written(match: re.Match[str]) -> str:
        language, code, _ = match.groups()
        output = next(given)
        return f"```{language}\n{code}```\n" + (f"\n```text\n{output}```\n" if output else "")

    return BLOCK.sub(written, text)


@contextlib.contextmanager
def workplace(quickstart: Path) -> Iterator[Path]:
    """Make a folder with a link to a quickstart and one to docs the current one; it is deleted in the end."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for name, target in [("quickstart", quickstart), ("docs", DOCS)]:
            (Path(folder) / name).symlink_to(target.resolve(), target_is_directory=True)
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def rewrite(name: str, quickstart: Path) -> None:
    """Run a chapter; write its output into its pages, and its pictures to docs/tour/pictures."""
    pages = [folder / f"{name}.md" for folder in (ENGLISH, CHINESE)]
    with workplace(quickstart) as folder:
        outputs, _ = run_chapter(pages[0].read_text(encoding="utf-8"))
        for picture in sorted(folder.glob("*.png")):
            shutil.copyfile(picture, PICTURES / picture.name)
    for page in pages:
        if page.exists():
            page.write_text(with_outputs(page.read_text(encoding="utf-8"), outputs), encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Rewrite the chapters named after the folder of a quickstart, or all of them."""
    folder, *names = arguments
    for name in names or chapters():
        began = time.perf_counter()
        rewrite(name, Path(folder))
        print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
