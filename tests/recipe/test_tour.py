"""Every chapter of docs/tour runs on a small model: its arithmetic holds, and it prints and draws where its page does.

What the chapters compute by hand they compare with the model themselves; their assertions are run here.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bertwright.corpus.builtin import write_python_docs
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ROOT / "docs" / "tour", ROOT / "docs" / "zh" / "tour"
CHAPTERS = sorted(page.stem for page in ENGLISH.glob("[0-9]*.md"))
SHORT = {
    '"steps": 120': '"steps": 4',
    '"evaluation_rows": 128': '"evaluation_rows": 8',
    '"evaluation_rows": 64': '"evaluation_rows": 8',
    "--steps 150": "--steps 4 --engine.evaluation-rows 8",
    "num_rows=128": "num_rows=8",
    "epochs=10,": "epochs=1,",
    "epochs=40": "epochs=1",
    "epochs=2)": "epochs=1)",
    "numbers[:850]": "numbers[:40]",
    "numbers[850:]": "numbers[40:44]",
    '"train", 3000': '"train", 64',
    '"valid", 300': '"valid", 40',
    "range(200)": "range(30)",
    "in range(20):": "in range(1):",
    "draws = 4000": "draws = 400",
}
"""What makes a chapter brief: fewer steps, rows and draws."""


def load_runner() -> ModuleType:
    """Return .ci/tour.py as a module."""
    spec = importlib.util.spec_from_file_location("tour_runner", ROOT / ".ci" / "tour.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load_runner()


@pytest.fixture(scope="module")
def small_quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder such as quickstart leaves, of the standard library's documentation and a few steps."""
    folder = tmp_path_factory.mktemp("quickstart")
    docs = write_python_docs(folder, packages=())
    prepare([docs], folder / "data", vocab_size=2048, language="en", valid_fraction=0.2)
    schedule = {"steps": 12, "phases": [{"length": 64, "rows": 32, "share": 1.0}]}
    engine = {"compile": False, "precision": "fp32", "evaluations": 1, "evaluation_rows": 8, "snapshots": 3}
    pretrain(folder / "data", folder / "run", size="tiny", settings={"schedule": schedule, "engine": engine})
    return folder


@pytest.fixture
def place(small_quickstart: Path) -> Iterator[Path]:
    """The folder that a chapter runs in; torch's random numbers are as before in the end."""
    state = torch.get_rng_state()
    with runner.workplace(small_quickstart) as folder:
        yield folder
    torch.set_rng_state(state)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_runs_and_prints_and_draws_what_its_page_shows(name: str, place: Path) -> None:
    text = (ENGLISH / f"{name}.md").read_text(encoding="utf-8")
    outputs, names = runner.run_chapter(text, SHORT)
    shown = [bool(output) for _, _, output in runner.BLOCK.findall(text)]
    assert [bool(output) for output in outputs] == shown
    pictures = {picture.name for picture in place.glob("*.png")}
    for page in (ENGLISH / f"{name}.md", CHINESE / f"{name}.md"):
        links = re.findall(r'<img src="([^"]+)" alt="[^"]{10,}">', page.read_text(encoding="utf-8"))
        assert {Path(link).name for link in links} == pictures
        assert [link for link in links if not (page.parent / link).is_file()] == []
    check = CHECKS.get(name)
    if check is not None:
        check(names, outputs)


def check_masks(names: dict[str, Any], outputs: list[str]) -> None:
    """Fill in at the place of the mask: that of the complete row is not that of the others."""
    ids, mask = names["right"], names["tokenizer"].special.mask
    assert (ids[0], ids[-1]) == (names["tokenizer"].special.cls, names["tokenizer"].special.sep)
    assert ids.index(mask) == names["wrong"].index(mask) + 1 != names["text"].split().index("[MASK]")
    assert len(names["fill"](ids, ids.index(mask))) == 4


def check_pairs(names: dict[str, Any], outputs: list[str]) -> None:
    """The first way encodes pairs as the tokenizer does, and all the others do not."""
    tokenizer = names["tokenizer"]
    first, second = "open the file.", "it must exist."
    encoded = tokenizer.backend.encode(first, second)
    rows = [way(tokenizer.encode(first), tokenizer.encode(second)) for way in names["ways"].values()]
    assert [row == (encoded.ids, encoded.type_ids) for row in rows] == [True, False, False, False]
    assert all(0 <= share <= 1 for answers in names["answers"].values() for share, _ in answers)


def check_losses(names: dict[str, Any], outputs: list[str]) -> None:
    """The logarithm of logits is no loss; that of probabilities is the one that is trained with."""
    assert torch.isnan(names["wrong"])
    assert float(names["right"]) == pytest.approx(float(names["by_hand"]), abs=1e-5)


def check_starts(names: dict[str, Any], outputs: list[str]) -> None:
    """A new model knows nothing, one that starts from counts knows something."""
    loss, _ = names["losses"]["random numbers"]
    assert loss == pytest.approx(torch.tensor(2048.0).log().item(), abs=0.1)
    assert names["losses"]["counts"][0] < loss - 1


def check_words(names: dict[str, Any], outputs: list[str]) -> None:
    """Words of two characters are hidden whole by one rule, and by chance by the other."""
    assert names["whole"][True] > 0.99
    assert names["whole"][False] == pytest.approx(0.15**2 / (0.3 - 0.15**2), abs=0.03)


CHECKS = {
    "07-masked-words": check_masks,
    "08-next-sentence": check_pairs,
    "09-loss": check_losses,
    "10-initial-weights": check_starts,
    "16-chinese-words": check_words,
}
"""What must be so after a chapter, beside its own assertions."""


def test_every_shortening_is_of_a_chapter_and_no_picture_is_left_over() -> None:
    pages = "".join((ENGLISH / f"{name}.md").read_text(encoding="utf-8") for name in CHAPTERS)
    assert [long for long in SHORT if long not in pages] == []
    shown = set(re.findall(r"pictures/([\w-]+\.png)", pages))
    assert {picture.name for picture in (ENGLISH / "pictures").iterdir()} == shown


def test_outputs_are_written_after_their_blocks() -> None:
    block = "```python\n{}\n```\n\n"
    two, nothing = block.format("print(1 + 1)"), block.format("x = 1")
    page = f"Text.\n\n{two}```text\nold\n```\n\n{nothing}```text\ngone\n```\n\nEnd.\n"
    outputs, names = runner.run_chapter(page)
    assert names["x"] == 1
    assert runner.with_outputs(page, outputs) == f"Text.\n\n{two}```text\n2\n```\n\n{nothing}End.\n"
