"""Measures what pre-training is worth to translation: BLEU after so many minutes, from trained weights and from none.

    python benchmarks/translation.py --pairs multi30k_en_de --out translation --pretrain-minutes 20 --minutes 20

PAIRS holds train, val and test files with the suffixes of both languages. A byte-level vocabulary and an encoder are
trained on both sides of the training pairs alone; then the same encoder-decoder is fine-tuned for the same time twice.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bertwright.verbs.finetune import finetune
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain

DOCUMENT = 40
"""Lines put together as a document: rows of captions one by one would be padding for the most part."""


def write_documents(pairs: Path, split: str, sides: list[str], folder: Path) -> list[str]:
    """Write both sides of a split as documents, a blank line between; return the names of the files."""
    files = []
    for side in sides:
        lines = (pairs / f"{split}.{side}").read_text(encoding="utf-8").splitlines()
        blocks = ["\n".join(lines[begin : begin + DOCUMENT]) for begin in range(0, len(lines), DOCUMENT)]
        file = folder / f"{split}-{side}.txt"
        file.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
        files.append(str(file))
    return files


def pretrained(words: argparse.Namespace, out: Path) -> Path:
    """Return the folder of an encoder trained on both sides of the training pairs."""
    sides = [words.source, words.target]
    train, valid = (write_documents(words.pairs, split, sides, out) for split in ("train", "val"))
    prepare(train, out / "data", valid=valid, kind="bpe", lowercase=False, vocab_size=8192, document_boundary="blank")
    settings: dict[str, Any] = {
        "size": words.size,
        "objective": {"next_sentence": False},
        "schedule": {
            "minutes": words.pretrain_minutes,
            "phases": [{"length": 128, "rows": 32, "share": 1.0}],
        },
    }
    pretrain(out / "data", out / "encoder", recipe=words.recipe, settings=settings)
    return out / "encoder" / "model"


def main() -> None:
    """Train, fine-tune from both starts, and print BLEU and chrF of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--test", default="test_2017_flickr")
    parser.add_argument("--source", default="en")
    parser.add_argument("--target", default="de")
    parser.add_argument("--size", default="mini")
    parser.add_argument("--recipe", default="classic-fast", help="of pre-training, without next sentences")
    parser.add_argument("--pretrain-minutes", type=float, default=20)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--out", type=Path, required=True)
    words = parser.parse_args()
    words.out.mkdir(parents=True)
    model = pretrained(words, words.out)
    files = {"train": words.pairs / "train", "dev": words.pairs / "val", "test": words.pairs / words.test}
    for start in ("both", "neither"):
        settings: dict[str, Any] = {
            "schedule": {"minutes": words.minutes, "epochs": 5},
            "translate": {"start": start, "source": words.source, "target": words.target},
        }
        if words.learning_rate:
            settings["optimizer"] = {"learning_rate": words.learning_rate}
        figures = finetune("translate", model, **files, out=words.out / start, settings=settings)
        print(start, {split: figures[split] for split in ("dev", "test")}, figures["signatures"]["bleu"])


if __name__ == "__main__":
    main()
