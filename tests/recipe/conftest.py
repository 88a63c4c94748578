"""Makes the small corpus that short runs learn from."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertwright.recipes.prepare import prepare


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
    prepare([str(folder / "animals.txt")], folder / "data", vocab_size=512, held_out=0.1)
    return folder / "data"
