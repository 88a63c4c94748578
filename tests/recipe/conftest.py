"""Makes the small corpus that short runs learn from, and spares them what costs a second a run and teaches nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertwright.device import matmul_rate
from bertwright.reports.curves import draw
from bertwright.verbs.prepare import prepare

USUAL = {"draw": draw, "matmul_rate": matmul_rate}
SPARED = {"draw": lambda drawers, lines: "", "matmul_rate": lambda *shape, **given: 1e9}


def put(patch: pytest.MonkeyPatch, functions: dict[str, Any]) -> None:
    """Put functions in the place of those of bertwright that have their names."""
    for name, module in list(sys.modules.items()):
        for function in functions.keys() & vars(module).keys() if name.startswith("bertwright.") else ():
            patch.setattr(module, function, functions[function])


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Draw no picture into reports, and take the peak rate of the machine as known: a second of every run."""
    with pytest.MonkeyPatch.context() as patch:
        put(patch, SPARED)
        yield


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw pictures and measure rates in this test."""
    put(monkeypatch, USUAL)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus with structure to learn: each document speaks of one animal in fixed phrases."""
    folder = tmp_path_factory.mktemp("corpus")
    animals = ["cat", "dog", "horse", "owl", "crow", "fox", "bear", "wolf", "goat", "hen"]
    documents = []
    for index in range(240):
        animal, other = animals[index % 10], animals[(index // 10 + index) % 10]
        documents.append(
            " ".join(
                f"The {animal} number {index} sees the {other} near river {line}. "
                f"Then the {animal} runs to house {index + line} and eats."
                for line in range(6)
            )
        )
    (folder / "animals.txt").write_text("\n\n".join(documents), encoding="utf-8")
    prepare([str(folder / "animals.txt")], folder / "data", vocab_size=512, valid_fraction=0.1)
    return folder / "data"
