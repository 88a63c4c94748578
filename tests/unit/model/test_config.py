"""Model settings: the published sizes, their weights counted, and the price of a step."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bertwright.config import compose
from bertwright.errors import ConfigError
from bertwright.model.build import build_encoder, named_size
from bertwright.model.config import BertConfig, ModelConfig, ModernConfig, training_flops
from bertwright.model.encoder import parameter_count
from bertwright.types import MaskedBatch


@pytest.mark.parametrize("kind", [BertConfig, ModernConfig])
def test_sizes_have_published_heads(kind: type[ModelConfig]) -> None:
    for layers, hidden, heads, _ in kind.sizes.values():
        assert heads * 64 == hidden
        assert layers >= 2


@pytest.mark.parametrize(
    ("architecture", "name", "vocabulary", "count"),
    [
        # Devlin et al. 2018: base has 110M parameters, large 340M; with V 30,522 and both heads exactly:
        ("bert", "base", 30522, 110_106_428),
        ("bert", "large", 30522, 336_226_108),
        # Warner et al. 2024: base has 149M parameters, large 395M, with V 50,368
        ("modern", "base", 50368, 149_655_232),
        ("modern", "large", 50368, 395_881_664),
    ],
)
def test_published_sizes(architecture: str, name: str, vocabulary: int, count: int) -> None:
    with torch.device("meta"):
        assert (
            parameter_count(build_encoder(named_size(name, architecture=architecture, vocab_size=vocabulary))) == count
        )


@pytest.mark.parametrize("architecture", ["bert", "modern"])
def test_flops_are_those_torch_counts(architecture: str) -> None:
    """Every product of the forward pass; torch counts the batched ones of attention too. Bias gradients aside."""
    config = named_size("tiny", architecture=architecture, vocab_size=211)
    rows, length, masked = 3, 24, 5
    ids, slots = torch.randint(211, (rows, length)), torch.zeros(rows, masked).long()
    example = MaskedBatch(ids, ids * 0, ids >= 0, slots, slots, torch.ones(rows, masked))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build_encoder(config)(example)
    assert training_flops(config, rows=rows, length=length, masked=masked) == 3 * counter.get_total_flops()


def test_unknown_size() -> None:
    with pytest.raises(ConfigError, match=r"'huge'.*tiny, mini"):
        named_size("huge", vocab_size=8)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match=r"hidden_size 30.*heads 4"):
        compose(BertConfig, {"vocab_size": 8, "hidden_size": 30, "layers": 1, "heads": 4, "intermediate_size": 8})
