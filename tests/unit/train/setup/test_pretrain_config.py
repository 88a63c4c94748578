"""Settings of a run: those that do not fit are refused, and what rows of a recipe and pairs of a call do together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bertwright.errors import ConfigError
from bertwright.train.setup.pretrain_config import resolve, switched_off

PAIRS: dict[str, Any] = {"objective": {"next_sentence": True}}
FILLED = "[data]\nfill_rows = true\n[objective]\nnext_sentence = {pairs}\n[schedule]\nsteps = 5\n"


def test_pairs_that_are_asked_for_switch_off_what_the_recipe_does_with_rows() -> None:
    config = resolve("fast", PAIRS)
    assert (config.data.fill_rows, config.data.pack, config.objective.next_sentence) == (False, False, True)
    assert config.model.architecture == "modern"
    assert str(switched_off("fast", PAIRS)).startswith("data.fill_rows")
    assert resolve("fast", {}).data.fill_rows
    assert switched_off("fast", {}) is None
    assert switched_off("classic", {**PAIRS, "schedule": {"minutes": 3}}) is None


@pytest.mark.parametrize("name", ["fill_rows", "pack"])
def test_what_the_call_itself_asks_for_is_refused_beside_pairs(name: str) -> None:
    with pytest.raises(ConfigError, match=f"data.{name}.*--objective.next-sentence"):
        resolve("fast", {**PAIRS, "data": {name: True}})
    assert not getattr(resolve("fast", {**PAIRS, "data": {name: False}}).data, name)


def test_a_recipe_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(FILLED.format(pairs="true"))
    with pytest.raises(ConfigError, match=r"data\.fill_rows"):
        resolve(str(file), {})
    assert not resolve(str(file), PAIRS).data.fill_rows
    file.write_text(FILLED.format(pairs="false"))
    assert resolve(str(file), {}).data.fill_rows


def test_the_model_has_the_head_where_pairs_are_trained_on() -> None:
    for settings, head in (({}, False), (PAIRS, True)):
        config = resolve("fast", settings)
        shape = config.model.shape("tiny", vocab_size=99, pad_token_id=0, next_sentence=config.objective.next_sentence)
        assert shape.model_dump()["next_sentence"] is head


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimiser": {"name": "adamw"}}, "optimizer"),
        ({"size": "huge"}, "tiny, mini"),
        ({"schedule": {"steps": 3, "phases": [{"length": 1024, "rows": 4, "share": 1.0}]}}, "512 positions"),
        ({"schedule": {"steps": "many"}}, r"schedule\.steps"),
        ({"engine": {"accumulation": 3}}, "micro-batches"),
        ({"model": {"architecture": "mod"}}, r"model\.architecture"),
        ({"model": {"global_every": 3}}, "'modern'"),
        ({"data": {"fill_rows": True}}, "sentence pairs"),
        ({"data": {"pack": True}}, r"sentence pair.*--objective\.next-sentence"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve("classic-fast", settings)
