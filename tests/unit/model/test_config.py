"""Model settings: the published sizes, their weights counted, and the price of a step."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bertwright.config import compose
from bertwright.errors import ConfigError
from bertwright.model.config import SIZES, ModelConfig, named_size, parameter_count, training_flops
from bertwright.model.encoder import BertForPreTraining
from bertwright.types import Example


def test_sizes_are_published_ones() -> None:
    for layers, hidden, heads, inner in SIZES.values():
        assert heads * 64 == hidden
        assert inner == 4 * hidden
        assert layers >= 2
    # Devlin et al. 2018: base has 110M parameters, large 340M; with V 30,522 and both heads exactly:
    assert parameter_count(named_size("base", vocab_size=30522)) == 110_106_428
    assert parameter_count(named_size("large", vocab_size=30522)) == 336_226_108


@pytest.mark.parametrize("name", ["tiny", "mini"])
def test_count_is_that_of_the_model(name: str) -> None:
    config = named_size(name, vocab_size=211)
    assert parameter_count(config) == sum(p.numel() for p in BertForPreTraining(config).parameters())


def test_flops_are_those_torch_counts() -> None:
    """Every product of the forward pass; torch counts the batched ones of attention too. Bias gradients aside."""
    config = named_size("tiny", vocab_size=211)
    rows, length, masked = 3, 24, 5
    ids, slots = torch.randint(211, (rows, length)), torch.zeros(rows, masked).long()
    example = Example(ids, ids * 0, ids >= 0, slots, slots, torch.ones(rows, masked))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        BertForPreTraining(config)(example)
    assert training_flops(config, rows=rows, length=length, masked=masked) == 3 * counter.get_total_flops()


def test_unknown_size() -> None:
    with pytest.raises(ConfigError, match="unknown size 'huge'; the sizes are tiny, mini"):
        named_size("huge", vocab_size=8)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="hidden_size 30 is not a multiple of heads 4"):
        compose(ModelConfig, {"vocab_size": 8, "hidden_size": 30, "layers": 1, "heads": 4, "intermediate_size": 8})
