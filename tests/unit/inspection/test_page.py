"""The page in a real Chromium: what it shows, by mouse and keyboard, in two languages; no script runs but its own."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bertwright.errors import BertwrightError
from bertwright.hub.encoder_folder import load_model, save_model
from bertwright.inspection.inspected_model import open_inspected
from bertwright.inspection.inspector import Inspector, open_inspector
from bertwright.inspection.page import page_content, page_html, page_policy
from bertwright.verbs.inspect import inspect

from .chromium import PROGRAM, Browser, browser
from .conftest import small_encoder

needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")
HOSTILE = "</script><img src=x onerror=alert(1)><b>a</b> [MASK] & film."
TEXTS = ["Return true if the [MASK] is empty.", "The list is empty.\tReturn [MASK] if a film rains.", HOSTILE]
HEADINGS = "[...document.querySelectorAll('h2')].map(one => one.textContent)"


@pytest.fixture(scope="module")
def run(pretrained: Path, vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a RUN folder with a model and two of its way."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(pretrained, folder / "model")
    for step, scale in ((0, 0.2), (4, 0.9)):
        model = small_encoder()
        model.word_embeddings.weight.data.mul_(scale)
        save_model(model, vocabulary, folder / "snapshots" / f"step-{step}")
    return folder


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of that run."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    figures = inspect(run, file, text=TEXTS)
    assert figures["bytes"] == file.stat().st_size < 250_000
    return file


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Open a Chromium."""
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'id="content">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found
    return json.loads(found[1])


def test_what_a_page_holds_is_what_the_model_says(page: Path, run: Path) -> None:
    [held] = data_of(page)["models"]
    inspector = Inspector(open_inspected(run / "model"), [("Return true if the [MASK] is empty.",)])
    fresh = inspector.read("Return true if the [MASK] is empty.")
    first = held["readings"][0]
    assert held["about"]["steps"] == [0, 4]
    assert json.loads(json.dumps(fresh["guesses"])) == first["guesses"]
    assert first["attention"] == fresh["attention"]
    assert {*map(str, range(8))} - {"4"} <= first["guesses"].keys()
    assert len(first["guesses"]["0,2"]) == 3
    assert len(first["steps"]) == 2
    assert first["steps"][0] != first["steps"][1]
    assert len(held["readings"][1]["why"][0]["words"]) == len(held["readings"][1]["words"])


def test_texts_stand_in_the_file_as_data_alone(page: Path) -> None:
    source = page.read_text(encoding="utf-8")
    assert "<img" not in source
    assert "<b>" not in source
    assert source.count("<script") == source.count("</script>") == 2
    assert data_of(page)["models"][0]["readings"][2]["texts"] == [HOSTILE]
    assert "unsafe" not in page_policy()
    assert not re.search(r"(?:src|href)=\"(?!data:)", source)


@needs_chromium
def test_words_are_masked_by_mouse_and_keyboard_and_bars_follow(page: Path, tab: Browser) -> None:
    tab.open(page.as_uri())
    [held] = data_of(page)["models"]
    guesses = held["readings"][0]["guesses"]
    shown = "[...document.querySelectorAll('#fill .bars')].map(one => [...one.querySelectorAll('.number')].length)"
    assert tab.run(shown) == [5]
    tab.run("document.querySelectorAll('#fill .words button')[0].click()")
    assert tab.run(shown) == [5, 5]
    best = tab.run("document.querySelector('#fill .bars span').textContent.replace(' ✓', '')")
    assert best == guesses["0"][0][0][0]
    tab.run("document.querySelectorAll('#fill .words button')[0].focus()")
    tab.press("Tab", code=9)
    tab.press(" ", code=32)
    assert tab.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert tab.run(shown) == [5, 5, 5]
    tab.run("document.querySelectorAll('#fill .words button')[2].click()")  # a third one is not in the file
    assert tab.run("document.querySelector('#fill [aria-live]').textContent").count("serve") == 1
    assert tab.complaints == []


@needs_chromium
def test_the_slider_shows_the_models_of_the_way(page: Path, tab: Browser) -> None:
    tab.open(page.as_uri())
    [held] = data_of(page)["models"]
    slider = "document.querySelector('#fill input[type=range]')"
    for at, expected in enumerate([*held["readings"][0]["steps"], held["readings"][0]["guesses"]]):
        tab.run(f"{slider}.value = {at}; {slider}.dispatchEvent(new Event('input'))")
        assert tab.run("document.querySelector('#fill .bars span').textContent") == expected[""][0][0][0]
        assert tab.run(f"{slider}.getAttribute('aria-valuetext')").count(("0", "4", "")[at])
    assert tab.run("document.querySelectorAll('#fill svg circle').length") == 3


@needs_chromium
def test_every_section_is_drawn_of_every_text_and_a_hostile_one_is_text(page: Path, tab: Browser) -> None:
    tab.open(page.as_uri())
    for number in range(len(TEXTS)):
        tab.run(
            f"box = document.getElementById('choose'); box.value = {number}; box.dispatchEvent(new Event('change'))"
        )
        assert len(tab.run(HEADINGS)) == (13 if number == 1 else 12)
        assert tab.run("document.querySelectorAll('#attention .heads button').length") == 4
    assert "<img src=x" in tab.run("document.querySelector('#choose').selectedOptions[0].textContent")
    assert tab.run("document.images.length + document.querySelectorAll('b').length") == 0
    tab.run("document.querySelectorAll('#attention .heads button')[3].click()")
    assert tab.run("document.activeElement.dataset.head") == "1,1"
    before = tab.run("document.querySelector('#draws ul').textContent")
    tab.run("document.querySelector('#draws button').click()")
    assert tab.run("document.querySelector('#draws ul').textContent") != before
    assert tab.complaints == []


@needs_chromium
@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_speaks_the_language_of_the_browser_and_is_for_everybody(
    page: Path, tab: Browser, language: str, dark: bool
) -> None:
    tab.open(page.as_uri(), language=language, dark=dark, width=400)
    assert tab.run("document.documentElement.lang") == language
    assert ("注意力" in tab.run(HEADINGS)) == (language != "en")
    assert tab.run("document.documentElement.scrollWidth") <= 400
    check_accessible(tab)


def check_accessible(tab: Browser) -> None:
    """Controls have names, an id is one thing, text stands out; and axe finds nothing, where it is installed."""
    nameless = """[...document.querySelectorAll('button, select, input, textarea, [role=img]')].filter(one =>
        !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)).length"""
    assert tab.run(nameless) == 0
    assert tab.run("new Set([...document.querySelectorAll('[id]')].map(one => one.id)).size") == tab.run(
        "document.querySelectorAll('[id]').length"
    )
    assert weakest_contrast(tab) >= 4.5
    for module in ("axe_playwright_python", "axe_core_python"):
        if spec := importlib.util.find_spec(module):
            assert spec.submodule_search_locations
            tab.run((Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8") + ";0")
            found = tab.run("axe.run().then(found => found.violations.map(one => [one.id, one.nodes[0].html]))")
            assert found == []
            break


def weakest_contrast(tab: Browser) -> float:
    """Return the least contrast of any text with what is behind it, by WCAG 2.1."""
    value: float = tab.run(
        """(() => {
        const parts = text => text.match(/[\\d.]+/g).map(Number);
        const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
        const over = (under, [r, g, b, a = 1]) => [r, g, b].map((v, at) => v * a + under[at] * (1 - a));
        const written = one => [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        let least = 99;
        for (const one of document.querySelectorAll('body *')) {
          if (!written(one) || one.closest('.hide, option, script, svg')) continue;
          const layers = [];
          for (let at = one; at; at = at.parentElement) layers.unshift(parts(getComputedStyle(at).backgroundColor));
          const behind = layers.reduce(over, [255, 255, 255]);
          const pair = [light(parts(getComputedStyle(one).color)), light(behind)].sort((a, b) => b - a);
          least = Math.min(least, (pair[0] + 0.05) / (pair[1] + 0.05));
        }
        return least })()"""
    )
    return value


@needs_chromium
def test_entities_answers_and_two_models_are_shown(fine_tuned: dict[str, Path], tab: Browser, tmp_path: Path) -> None:
    file = tmp_path / "tag.html"
    inspect(fine_tuned["tag"], file, text=["Anna lives in Graz."])
    tab.open(file.as_uri())
    [reading] = data_of(file)["models"][0]["readings"]
    marks = tab.run("[...document.querySelectorAll('#task mark')].map(one => one.firstChild.textContent)")
    assert marks == [one["text"] for one in reading["prediction"]["entities"]]
    slider = "document.querySelector('#task input')"
    tab.run(f"{slider}.value = 100; {slider}.dispatchEvent(new Event('input'))")
    assert tab.run("document.querySelectorAll('#task mark').length") == 0
    inspect(fine_tuned["answer"], file, text=["Who lives in Graz?\tAnna lives in Graz."])
    tab.open(file.as_uri())
    assert tab.run("document.querySelectorAll('#task mark').length") >= 1
    check_accessible(tab)
    inspect(fine_tuned["classify"], file, text=["A fine film."], against=fine_tuned["regress"])
    tab.open(file.as_uri())
    assert tab.run("document.querySelectorAll('#attention .columns > div').length") == 2
    assert tab.run("document.querySelectorAll('#task .columns > div').length") == 2
    assert tab.complaints == []


@needs_chromium
def test_with_a_server_it_asks_for_other_texts(run: Path, tab: Browser) -> None:
    inspector = open_inspector(run, name="small", texts=[("The [MASK] is empty.",)])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(
                page_html(page_content([inspector], reads=False), endpoint="inspect"), "text/html; charset=utf-8"
            )

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                if "others" in asked:
                    found: dict[str, Any] = {"alike": inspector.alike(asked["text"], asked["others"])}
                else:
                    found = inspector.read(asked["text"], asked["second"], seed=asked["seed"])
            except BertwrightError as error:
                found = {"error": str(error), "error_type": "Validation"}
            self.reply(json.dumps(found), "application/json")

        def reply(self, text: str, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        tab.open(f"http://127.0.0.1:{server.server_port}/")
        tab.wait("document.querySelectorAll('#fill .bars').length === 1")
        check_accessible(tab)
        two = "document.querySelectorAll('#fill .bars').length === 2"
        wrong = "document.querySelector('#text .error') !== null"
        for text, ready in (("Return the [MASK] if [MASK] rains.", two), ("", wrong)):
            tab.run(f"document.getElementById('own').value = {json.dumps(text)}")
            tab.run("document.querySelector('#text form').requestSubmit()")
            tab.wait(ready)
        for number in range(2):
            tab.run(f"document.querySelectorAll('#fill .words button')[{number}].click()")
        tab.wait("document.querySelectorAll('#fill .bars').length === 4")
        tab.run("document.getElementById('list').value = 'the list\\nthe film'")
        tab.run("[...document.querySelectorAll('#alike button')].pop().click()")
        tab.wait("document.querySelectorAll('#alike .number').length === 2")
        assert tab.complaints == []
    finally:
        server.shutdown()
        server.server_close()


def test_a_model_of_the_way_is_a_model(run: Path) -> None:
    assert load_model(run / "snapshots" / "step-4").config == load_model(run / "model").config
