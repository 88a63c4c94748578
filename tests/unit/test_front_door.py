"""The public names are functions or classes, whatever was imported before, and importing them is cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest

ORDERS = {
    "first thing": "",
    "after pre-training": "bertwright.prepare, bertwright.pretrain;",
    "after the room of that name": "import bertwright.evaluate.held_out;",
}


@pytest.mark.parametrize("before", ORDERS.values(), ids=ORDERS)
def test_verbs_are_functions_however_often_they_are_asked_for(before: str) -> None:
    code = f"""
import bertwright
{before}
for turn in range(2):
    for name in bertwright.__all__:
        assert callable(getattr(bertwright, name)), name
from bertwright import evaluate
assert evaluate.__name__ == "evaluate"
from bertwright.evaluate.fill_mask import fill_mask
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import bertwright

    with pytest.raises(AttributeError, match="has no attribute 'pretrian'"):
        bertwright.pretrian  # noqa: B018
