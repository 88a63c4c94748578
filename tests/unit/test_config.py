"""What a setting should have been is said in plain words, with its place and what was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bertwright.errors import ConfigError, UsageError
from bertwright.train.setup.pretrain_config import resolve
from bertwright.types import listed

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"optimizer": {"learning_rate": "fast"}}, r"optimizer\.learning_rate must be a number \(given: 'fast'\)"),
    ({"optimizer": {"learning_rate": -1}}, r"optimizer\.learning_rate must be above 0 \(given: -1\)"),
    ({"model": {"dropout": 3}}, r"model\.dropout must be below 1 \(given: 3\)"),
    ({"engine": {"keep": 1.5}}, r"engine\.keep must be a whole number \(given: 1\.5\)"),
    ({"engine": {"compile": "maybe"}}, r"engine\.compile must be true or false or 'auto' \(given: 'maybe'\)"),
    ({"engine": {"parallel": "tp"}}, r"engine\.parallel must be 'ddp', 'zero1' or 'fsdp' \(given: 'tp'\)"),
    ({"schedule": {"steps": 2, "phases": "long"}}, r"schedule\.phases must be a list \(given: 'long'\)"),
    (
        {"schedule": {"steps": 2, "phases": [{"length": 9}]}},
        r"phases\.0\.rows is missing; schedule\.phases\.0\.share is",
    ),
    ({"schedule": {"steps": 2, "minutes": 3}}, "schedule: give exactly one of minutes, steps"),
    ({"optimizer": "adam"}, "^optimizer must be a section with settings of its own$"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_what_a_setting_should_have_been(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve("classic", settings)


@pytest.mark.parametrize("schedule", ["", "[schedule]\nwarmup = 0.2\n"])
def test_a_recipe_that_gives_no_duration_takes_that_of_the_call(tmp_path: Path, schedule: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(f'size = "tiny"\n{schedule}')
    with pytest.raises(ConfigError, match="--minutes, --steps"):
        resolve(str(file), {})
    assert resolve(str(file), {"schedule": {"steps": 7}}).schedule.amount == 7


def test_a_text_alone_is_a_list_of_one() -> None:
    assert listed("The [MASK].") == ["The [MASK]."]
    assert listed(Path("a")) == listed((Path("a"),)) == ["a"]
    assert listed(text for text in ("a", "b")) == ["a", "b"]
    for odd in (None, 3, b"a"):
        with pytest.raises(UsageError, match=f"strings.*{type(odd).__name__}"):
            listed(["a", odd])  # type: ignore[list-item]
