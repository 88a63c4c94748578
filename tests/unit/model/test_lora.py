"""Low-rank adapters: a model that starts as it was, learns beside frozen matrices, and is the same model merged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.model.build import build_encoder, named_size
from bertwright.model.lora import MATRICES, adapt, merge_adapters
from bertwright.model.task_model import FineTuned, freeze
from bertwright.types import LabelledBatch


def small(architecture: str) -> FineTuned:
    torch.manual_seed(0)
    shape = named_size("tiny", architecture=architecture, vocab_size=50, hidden_size=16, heads=2, max_positions=16)
    return FineTuned(build_encoder(shape), head_type="row", outputs=3, dropout=0.0).eval()


def batch() -> LabelledBatch:
    random, lengths = np.random.default_rng(0), np.array([7, 5, 9])
    one = np.ones(3, dtype=np.int64)
    ids = random.integers(5, 50, size=21).astype(np.uint32)
    return LabelledRows(ids, lengths, lengths, one * 0, one, one, 0).batch(np.arange(3))


@pytest.mark.parametrize("matrices", [("query", "value"), tuple(MATRICES)])
@pytest.mark.parametrize("architecture", ["bert", "modern"])
def test_merged_is_what_was_computed_with(architecture: str, matrices: tuple[str, ...]) -> None:
    model, plain = small(architecture), small(architecture)
    names = list(plain.state_dict())
    adapt(model, matrices, rank=4, alpha=8.0)  # type: ignore[arg-type]
    torch.testing.assert_close(model(batch()), plain(batch()), rtol=0, atol=0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    adapters = {name for name in trained if "parametrizations" in name}
    of_a_block = {"bert": 6, "modern": 7}[architecture] if len(matrices) > 2 else 2
    assert len(adapters) == 2 * 2 * of_a_block
    above = ("classifier", "encoder.pooler", "encoder.mlm_head", "encoder.norm")
    assert all(name.startswith(above) for name in trained - adapters)
    before = {name: parameter.clone() for name, parameter in model.named_parameters() if name not in trained}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        model(batch()).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    after = dict(model.named_parameters())
    assert all(torch.equal(weights, after[name]) for name, weights in before.items())
    unmerged = model(batch()).detach()
    assert float((unmerged - plain(batch()).detach()).abs().max()) > 1e-2
    merge_adapters(model)
    assert sorted(model.state_dict()) == sorted(names)
    torch.testing.assert_close(model(batch()).detach(), unmerged, rtol=0, atol=0)


def test_the_change_is_the_product_scaled() -> None:
    model, plain = small("bert"), small("bert")
    adapt(model, ["key"], rank=4, alpha=2.0)
    linear = model.encoder.get_submodule("blocks.0.attention.key")
    low = linear.get_submodule("parametrizations.weight.0")
    down, up = low.get_parameter("down"), low.get_parameter("up")
    torch.nn.init.normal_(up)
    merge_adapters(model)
    before = plain.encoder.get_parameter("blocks.0.attention.key.weight")
    expected = before + 2.0 / 4 * torch.einsum("or,ri->oi", up, down)
    torch.testing.assert_close(model.encoder.get_parameter("blocks.0.attention.key.weight"), expected)


def test_frozen_blocks_have_no_adapters() -> None:
    model = small("modern")
    freeze(model, 1)
    adapt(model, ["query"], rank=2, alpha=2.0)
    adapted = {name for name, _ in model.named_parameters() if "parametrizations" in name and name.endswith("up")}
    assert adapted == {"encoder.blocks.1.attention.query.parametrizations.weight.0.up"}
