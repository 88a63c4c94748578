"""Model cards: front matter that the Hub reads, the figures of the run, and no markup from a corpus or a file name."""

from __future__ import annotations

from typing import Any

import yaml

from bertwright.hub.cards.model_cards import (
    model_card,
    next_sentence_card,
    sentence_card,
    task_card,
    translation_card,
)

HOSTILE = "<script>alert(1)</script> | `x`\n# head"
TASK: dict[str, Any] = {
    "task": "classify",
    "model": "runs/en/model",
    "labels": ["no", HOSTILE],
    "dev": {"accuracy": 0.9, "f1_macro": 0.8},
    "test": {"accuracy": 0.91},
    "mean": {"dev": {"accuracy": 0.89, "f1_macro": 0.79}, "test": {"accuracy": 0.9}},
    "spread": {"dev": {"accuracy": 0.01, "f1_macro": 0.02}, "test": {"accuracy": 0.03}},
    "seeds": [{}, {}, {}],
    "examples": {"train": 1000, "dev": 10},
    "files": {"train": HOSTILE},
    "epochs": 3.0,
    "rows": 32,
    "optimizer": "adamw",
    "learning_rate": 3e-5,
    "warmup": 0.1,
    "strategies": {"dropout": 0.2},
    "seed": 7,
    "metric": "accuracy",
    "beams": 4,
    "signatures": {"bleu": "nrefs:1|case:mixed"},
    "start": "encoder",
    "smoothing": 0.1,
}
RUN: dict[str, Any] = {
    "language": "en",
    "valid": {"mlm_loss": 5.4321, "nsp_accuracy": 0.7},
    "samples": [{"text": f"a [MASK] {HOSTILE}", "truth": HOSTILE, "predictions": [[HOSTILE, 0.5]]}],
}


def front_matter(card: str) -> dict[str, Any]:
    """Return what the Hub reads of a card."""
    before, head, body = card.split("---\n", 2)
    assert before == ""
    assert body.startswith("\n# ")
    values: dict[str, Any] = yaml.safe_load(head)
    return values


def outside_code(card: str) -> str:
    """Return a card without its code, in which nothing is markup."""
    return "".join(card.split("`")[::2])


def test_every_card_has_what_the_hub_reads() -> None:
    for card, library, pipeline in (
        (model_card("run", RUN), "transformers", "fill-mask"),
        (next_sentence_card("run", RUN), "transformers", "text-classification"),
        (task_card("run", TASK), "transformers", "text-classification"),
        (task_card("run", TASK | {"task": "answer"}), "transformers", "question-answering"),
        (sentence_card("run", TASK, pooling="mean", normalize=True), "sentence-transformers", "sentence-similarity"),
        (translation_card("run", TASK), "transformers", "translation"),
    ):
        values = front_matter(card)
        assert (values["library_name"], values["pipeline_tag"]) == (library, pipeline)
        assert values.get("language") in ("en", None)
        assert isinstance(values["tags"], list)
        assert "\n\n\n" not in card


def test_text_of_a_corpus_and_names_of_files_are_no_markup() -> None:
    for card in (model_card(HOSTILE, RUN), task_card("run", TASK), translation_card("run", TASK)):
        assert "script" in card
        assert "<script" not in outside_code(card)
        assert "\n# head" not in card
    rows = [line for line in model_card("run", RUN).splitlines() if "[MASK]" in line]
    assert [row.replace("\\|", "").count("|") for row in rows] == [4], "a row of three cells"


def test_figures_stand_on_each_split_with_their_spread() -> None:
    card = task_card("run", TASK, names={"accuracy": "accuracy", "f1_macro": "F1 macro"})
    assert "| accuracy | 0.9000 (3 seeds: 0.8900 ± 0.0100) | 0.9100 (3 seeds: 0.9000 ± 0.0300) |" in card
    assert "| F1 macro | 0.8000 (3 seeds: 0.7900 ± 0.0200) |  |" in card
    assert "(1,000 examples), dev held out of it by a hash (10 examples). 3 epochs, 32 examples a step" in card
    assert "dropout 0.2, seed 7; the step with the best accuracy" in card
    assert "±" not in task_card("run", TASK | {"spread": {}})
    assert "(1,000 pairs)" in translation_card("run", TASK)
    assert "label smoothing 0.1" in translation_card("run", TASK)
