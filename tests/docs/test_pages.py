"""Every page says the same in English and Chinese, every relative link leads somewhere, and every command is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import bertwright
from bertwright.cli.main import main

ROOT = Path(__file__).parents[2]
DOCS, CHINESE = ROOT / "docs", ROOT / "docs" / "zh"


def pages_of(folder: Path) -> list[Path]:
    """Return the pages of a language: those of the folder and of its tour."""
    return [*folder.glob("*.md"), *folder.glob("tour/*.md")]


NAMES = sorted(page.relative_to(DOCS).as_posix() for page in pages_of(DOCS))
PAGES = [*pages_of(DOCS), *pages_of(CHINESE), *ROOT.glob("*.md")]
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
SYNOPSIS = re.compile(r"[\[|]|\.\.\.|\bTASK\b")
"""What stands in a line that shows a form of call, not a call."""


def text_of(page: Path) -> str:
    """Return a page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks_of(page: Path) -> list[str]:
    """Return the code blocks of a page without their comments, which each language has its own of."""
    return [re.sub(r" +# .*", "", block) for block in FENCE.findall(page.read_text(encoding="utf-8"))]


def anchors_of(page: Path) -> set[str]:
    """Return the names that links may give of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "")).strip().lower().replace(" ", "-") for heading in headings}


def shape_of(page: Path) -> dict[str, object]:
    """Return what a page and its translation have alike."""
    text = text_of(page)
    return {
        "levels of headings": [len(marks) for marks in re.findall(r"^(#+) ", text, re.M)],
        "code blocks": blocks_of(page),
        "cells of each table row": [
            re.sub(r"\\\||`[^`]*`", "", row).count("|") for row in re.findall(r"^\|.*", text, re.M)
        ],
        "items of lists": len(re.findall(r"^(?:- |\d+\. )", text, re.M)),
        "flags": set(re.findall(r"`(--[\w.-]+)", text)),
        "documented names": re.findall(r"^::: (\S+)", text, re.M),
        "files linked": {
            link.split("#")[0].replace("docs/zh/", "docs/") for link in re.findall(r"\]\(([^)]+)\)", text)
        },
    }


def dead_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead to no file, or to no heading of it."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            dead.append(link)
    return dead


def test_both_languages_have_the_same_pages() -> None:
    assert sorted(page.relative_to(CHINESE).as_posix() for page in pages_of(CHINESE)) == NAMES
    for config in ("mkdocs.yml", "mkdocs.zh.yml"):
        nav = (ROOT / config).read_text(encoding="utf-8").split("\nnav:\n")[1]
        assert sorted(re.findall(r": (\S+\.md)$", nav, re.M)) == NAMES, config


@pytest.mark.parametrize("name", NAMES)
def test_a_page_and_its_translation_have_the_same_shape(name: str) -> None:
    english, chinese = shape_of(DOCS / name), shape_of(CHINESE / name)
    assert {part: english[part] for part in english if english[part] != chinese[part]} == {}


def test_both_readmes_have_the_same_shape() -> None:
    """Its code blocks hold words too, of the walk and the tree; test_readme.py compares their commands."""
    english, chinese = shape_of(ROOT / "README.md"), shape_of(ROOT / "README.zh.md")
    assert {part for part in english if english[part] != chinese[part]} == {"code blocks"}


def test_the_chinese_page_of_bad_input_has_the_same_calls_and_answers() -> None:
    def rows(page: Path) -> list[str]:
        return re.findall(r"^(?:\| \d+ \|)[^|]*(\|.*)$", page.read_text(encoding="utf-8"), re.M)

    assert rows(DOCS / "bad-input.md") == rows(CHINESE / "bad-input.md")


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_the_reference_names_every_public_name() -> None:
    named = re.findall(r"^::: bertwright\.(\S+)", (DOCS / "reference.md").read_text(encoding="utf-8"), re.M)
    assert named == list(bertwright.__all__)


WITH_COMMANDS = [name for name in NAMES if "\nbertwright " in (DOCS / name).read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_the_commands_of_a_page_are_valid(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder each ends for want of its files (1), or shows a recipe (0); 2 is an invalid command line."""
    lines = [line for block in blocks_of(DOCS / name) for line in block.splitlines()]
    calls = [
        line for line in lines if line.startswith("bertwright ") and not SYNOPSIS.search(re.sub(r'".*?"', "", line))
    ]
    assert calls
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text("")
    words = {line: shlex.split(line.split(" > ")[0].replace("run/config.toml", "recipe.toml"))[1:] for line in calls}
    assert {line: code for line in calls if (code := main(words[line])) not in (0, 1)} == {}


@pytest.mark.parametrize("page", [DOCS / "architecture.md", CHINESE / "architecture.md"], ids=["en", "zh"])
def test_files_that_the_architecture_names_are_there(page: Path) -> None:
    package = ROOT / "src" / "bertwright"
    named = re.findall(r"`([a-z_/]+/[a-z_]+\.(?:py|toml))`", text_of(page))
    assert len(named) > 15
    assert [path for path in named if not ((package / path).exists() or (ROOT / path).exists())] == []
