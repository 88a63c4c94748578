"""The names of a fine-tuned folder's classes: those of id2label, with a warning where label2id says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bertwright.hub.task_folder import _labels

NAMES = {"0": "bad", "1": "good"}


@pytest.mark.parametrize(
    ("numbers", "warned"),
    [({"bad": 0, "good": 1}, False), ({"bad": 1, "good": 0}, True), (None, False), ({"other": 0}, False)],
)
def test_names_that_contradict_each_other(
    numbers: Any, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _labels({"id2label": NAMES, "label2id": numbers}, 2, tmp_path) == ("bad", "good")
    assert ("contradict each other" in capsys.readouterr().err) is warned
