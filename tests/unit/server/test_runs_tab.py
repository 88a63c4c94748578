"""The page of runs beside models that are served: its routes, its key, and the ways there and back in a browser."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertwright.reports.watching.watch_routes import watch_routes
from bertwright.server.home_page import RUNS

from ..inspection.chromium import PROGRAM, browser


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that trains, of three lines."""
    folder = tmp_path / "en"
    folder.mkdir()
    (folder / "config.toml").write_text('[model]\n[objective]\n[optimizer]\nname = "adamw"\nlearning_rate = 1e-3\n')
    (folder / "manifest.json").write_text(json.dumps({"unigram_entropy": 6.5}))
    lines = [{"step": step, "tokens": 100 * step, "seconds": 6.0 * step, "loss": 7.0 - step} for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def with_runs(serve_folders: Callable[..., Any], folders: dict[str, Path], run: Path) -> Any:
    words = {"words": folders["words"]}
    return serve_folders(words, key="secret", pages=watch_routes([run], at=RUNS, home="../"))


def test_runs_are_shown_with_the_key_alone(with_runs: Any, run: Path) -> None:
    """A browser asks people for the key at each page; models answer as ever."""
    assert with_runs.get(RUNS).headers["www-authenticate"].startswith("Basic")
    assert with_runs.get(f"{RUNS}runs.json").headers["www-authenticate"] == "Bearer"
    assert with_runs.get(RUNS.rstrip("/")).headers["www-authenticate"].startswith("Basic")
    key = {"authorization": "Basic " + base64.b64encode(b":secret").decode()}
    assert with_runs.get(RUNS.rstrip("/"), **key).headers["location"] == "runs/"
    page = with_runs.get(RUNS, **key)
    assert page.status == 200
    assert 'href="../"' in page.json
    found = with_runs.get(f"{RUNS}runs.json", **key)
    assert [one["step"] for one in found.json["runs"]] == [3]
    assert str(run.parent) not in json.dumps(found.json)
    assert '"runs":"runs/"' in with_runs.get("/", **key).json
    assert with_runs.post("/words/tokenize", {"inputs": "the cat"}, **key).status == 200


def test_without_runs_there_is_no_such_page(served: Any) -> None:
    assert served.get(RUNS).status != 200
    assert '"runs":null' in served.get("/").json


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")
@pytest.mark.parametrize(("language", "dark", "word"), [("en", False, "Runs"), ("zh-CN", True, "训练")])
def test_a_browser_goes_there_and_back(
    serve_folders: Callable[..., Any],
    folders: dict[str, Path],
    run: Path,
    tmp_path: Path,
    language: str,
    dark: bool,
    word: str,
) -> None:
    served = serve_folders({"words": folders["words"]}, pages=watch_routes([run], at=RUNS, home="../"))
    with browser(tmp_path / "chromium") as tab:
        tab.open(f"http://127.0.0.1:{served.port}/", width=400, dark=dark, language=language)
        tab.wait("document.querySelectorAll('#fill .bars').length > 0")
        link = "document.querySelector('header a')"
        assert tab.run(f"{link}.textContent") == word
        tab.screenshot(tmp_path / "home.png")
        tab.run(f"{link}.click()")
        tab.wait("document.querySelectorAll('polyline').length > 0")
        assert tab.run("document.querySelector('#runs').textContent").count("en")
        assert tab.run("document.documentElement.scrollWidth") <= 400
        tab.screenshot(tmp_path / "runs.png")
        tab.run("document.querySelector('nav a').click()")
        tab.wait("document.querySelector('#text form') !== null")
        assert tab.complaints == []
