"""The page of curves: what is read of a run, again and again; routes and their headers; what a browser makes of it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from bertwright.cli.main import main
from bertwright.errors import InputError, UsageError
from bertwright.reports.watching.run_curves import MOST_POINTS, named_runs, thinned
from bertwright.reports.watching.watch_page import offline_page
from bertwright.verbs.watch import watch

from ...inspection.chromium import PROGRAM, browser

HOSTILE = "</script><img src=x onerror=alert(1)>"


def line_of(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step, "tokens": 100 * step, "seconds": 6.0 * step, "loss": 7.0 - step / 100,
        "mlm_loss": 6.0 - step / 100,
        "gradient_norm": 2.0, "learning_rate": 1e-3, "tokens_per_second": 500.0, "mfu": 0.4, "memory": 2_000_000_000,
        "padding": 0.1, "waiting": 0.01, "fraction": step / 100, **more,
    }  # fmt: skip


def write(run: Path, *lines: dict[str, Any], mode: str = "w") -> None:
    with (run / "metrics.jsonl").open(mode) as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that trains: ten lines, of which the last is of an evaluation."""
    folder = tmp_path / "a <b> run"
    folder.mkdir()
    (folder / "config.toml").write_text('[model]\n[objective]\n[optimizer]\nname = "adamw"\nlearning_rate = 1e-3\n')
    (folder / "manifest.json").write_text(json.dumps({"unigram_entropy": 6.5}))
    sample = {"text": HOSTILE, "truth": "cat", "predictions": [[HOSTILE, 0.5], ["cat", 0.25]]}
    valid = {"mlm_loss": 5.5, "mlm_perplexity": 244.7, "mlm_accuracy": 0.1}
    last = line_of(10, valid=valid, samples=[sample], probes={"blimp": 0.5})
    write(folder, *(line_of(step) for step in range(1, 10)), last)
    return folder


def test_what_is_shown_of_a_run_that_trains(run: Path) -> None:
    (curves,) = named_runs([run])
    found = curves.figures()
    assert (found["state"], found["step"], found["minutes"], found["left"]) == ("trains", 10, 1.0, 9.0)
    assert found["training"]["curves"]["Memory (GB)"]["memory"] == [2.0] * 10
    assert found["training"]["curves"]["Padding and waiting for data"]["padding"] == [0.1] * 10
    assert found["held_out"]["curves"]["Loss (nats)"] == {"mlm_loss": [5.5]}
    assert found["held_out"]["curves"]["Probes"] == {"probes blimp": [0.5]}
    assert found["samples"][0]["rows"] == [(10, [[HOSTILE, 0.5], ["cat", 0.25]])]
    assert found["check"]["normal"]
    os.utime(run / "metrics.jsonl", (0, 0))
    assert curves.figures()["state"] == "stopped"
    (run / "result.json").write_text('{"steps": 10}')
    assert curves.figures()["state"] == "done"


def test_new_lines_are_read_and_a_file_written_anew_from_its_beginning(run: Path) -> None:
    (curves,) = named_runs([run])
    curves.update()
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line_of(11)) + "\n" + json.dumps(line_of(12))[:20])
    curves.update()
    assert [line["step"] for line in curves.lines][-2:] == [10, 11], "a line that is being written waits"
    (run / "metrics.jsonl").unlink()
    curves.update()
    assert curves.lines == []
    write(run, line_of(1), {"step": "none"}, line_of(2))
    curves.update()
    assert [line["step"] for line in curves.lines] == [1, 2]


def test_long_runs_are_thinned_and_keep_their_last_line() -> None:
    lines = [{"step": step} for step in range(10 * MOST_POINTS + 3)]
    found = thinned(lines)
    assert len(found) <= MOST_POINTS
    assert found[-1] is lines[-1]
    assert thinned(lines[:5]) == lines[:5]


def test_names_of_runs_are_no_paths_and_differ(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    assert [one.name for one in named_runs(folders)] == ["a/run", "b/run"]
    assert [one.name for one in named_runs(folders[:1])] == ["run"]


def test_the_page_in_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It loads nothing, and no text of a run is markup in it."""
    out = tmp_path / "page.html"
    assert main(["watch", str(run), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    page = out.read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "<b>" not in page
    assert not re.findall(r'(?:src|href)="', page)
    held = json.loads(re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)[0])
    assert held["runs"][0]["name"] == "a <b> run"
    assert str(tmp_path) not in page


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")
def test_a_browser_draws_the_page(run: Path, tmp_path: Path) -> None:
    """All pictures are there, read by keys, on a narrow screen, too; what is hostile in a run is text."""
    (tmp_path / "page.html").write_text(offline_page(named_runs([run])), encoding="utf-8")
    with browser(tmp_path / "chromium") as tab:
        tab.open((tmp_path / "page.html").as_uri(), width=400, dark=True)
        assert tab.run("document.querySelectorAll('figure').length") == 10
        assert tab.run("document.querySelectorAll('polyline').length") == 13
        assert tab.run("document.querySelectorAll('img, b').length") == 0
        assert "a <b> run" in tab.run("document.querySelector('#runs').textContent")
        assert HOSTILE in tab.run("document.querySelector('#samples').textContent")
        assert tab.run("document.documentElement.scrollWidth") <= 400
        assert tab.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        tab.run("document.querySelector('figure').focus()")
        tab.press("Home", code=36)
        tab.press("ArrowRight", code=39)
        reading = "document.querySelector('figure .reading').textContent"
        assert tab.run(reading).startswith("2 steps: loss 6.98, mlm loss 5.98,")
        tab.run("document.querySelector('input[value=tokens]').click()")
        tab.run("document.querySelector('figure').focus()")
        tab.press("End", code=35)
        assert tab.run(reading).startswith("1000 tokens: loss 6.9")
        tab.run("document.querySelector('figure button').click()")
        assert tab.run("document.querySelectorAll('polyline').length") == 12
        assert tab.run("document.activeElement.tagName") != "BODY"
        if spec := importlib.util.find_spec("axe_playwright_python"):
            assert spec.submodule_search_locations
            tab.run((Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8") + ";0")
            found = tab.run("axe.run().then(found => found.violations.map(one => [one.id, one.nodes[0].html]))")
            assert found == []
        assert tab.complaints == []


def test_what_cannot_be_watched(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="nowhere"):
        watch([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="RUN"):
        watch([])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="data"):
        watch([tmp_path / "data"])
    monkeypatch.setattr("bertwright.verbs.watch.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"bertwright\[serve\].*--out"):
        watch([run])


def test_the_routes_of_a_server(run: Path) -> None:
    """Page, script, style and figures; figures that are as before are not sent again; only names of this machine."""
    pytest.importorskip("starlette")
    testclient = pytest.importorskip("starlette.testclient")
    from bertwright.verbs.calls.watching import page_app

    client = testclient.TestClient(page_app([run], host="127.0.0.1"), base_url="http://127.0.0.1:8090")
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert client.get(f"/{name}").status_code == 200
    found = client.get("/runs.json")
    assert found.json()["runs"][0]["step"] == 10
    again = client.get("/runs.json", headers={"if-none-match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    write(run, line_of(11), mode="a")
    assert client.get("/runs.json", headers={"if-none-match": found.headers["etag"]}).json()["runs"][0]["step"] == 11
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.post("/runs.json").status_code == 405
