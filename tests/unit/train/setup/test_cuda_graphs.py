"""Which steps are replayed as CUDA graphs: of small models, where nothing changes or keeps what a graph holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bertwright.train.setup.cuda_graphs import SMALL, GraphedStep, why_no_graph

SMALL_STEP = GraphedStep("cuda", flops_by_block=SMALL / 2)


def test_a_small_step_whose_shapes_stay_is_replayed() -> None:
    assert why_no_graph(SMALL_STEP) is None


@pytest.mark.parametrize(
    "over",
    [
        {"device": "cpu"},
        {"flops_by_block": 2 * SMALL},
        {"accumulation": 2},
        {"processes": 2},
        {"dynamic": True},
        {"auxiliary": True},
    ],
)
def test_each_of_these_rules_it_out(over: dict[str, Any]) -> None:
    assert why_no_graph(replace(SMALL_STEP, **over))
