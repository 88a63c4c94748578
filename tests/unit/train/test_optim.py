"""Optimizers: decay off vectors, Muon on hidden matrices alone, every parameter in exactly one group."""

from __future__ import annotations

import pytest
import torch

from bertwright.errors import ConfigError
from bertwright.model.config import named_size
from bertwright.model.encoder import BertForPreTraining
from bertwright.train.optim import OptimizerConfig, build_optimizers, hidden_matrices, set_learning_rate


@pytest.fixture(scope="module")
def model() -> BertForPreTraining:
    return BertForPreTraining(named_size("tiny", vocab_size=128))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_is_in_one_group(model: BertForPreTraining, name: str) -> None:
    optimizers = build_optimizers(model, OptimizerConfig(name=name))
    grouped = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters()}


def test_no_decay_on_biases_and_layer_norms(model: BertForPreTraining) -> None:
    (adamw,) = build_optimizers(model, OptimizerConfig(weight_decay=0.01))
    decay = {id(p): g["weight_decay"] for g in adamw.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        plain = name.endswith("bias") or "norm" in name.lower()
        assert decay[id(parameter)] == (0.0 if plain else 0.01), name


def test_muon_takes_the_matrices_between_embeddings_and_heads(model: BertForPreTraining) -> None:
    names = {id(p): n for n, p in model.named_parameters()}
    taken = {names[id(p)] for p in hidden_matrices(model)}
    blocks = {n for n in names.values() if n.startswith("blocks.") and dict(model.named_parameters())[n].ndim == 2}
    assert blocks <= taken
    assert len(blocks) == 2 * 6
    assert not any("embedding" in n or "nsp" in n for n in taken)


def test_learning_rates_follow_the_factor(model: BertForPreTraining) -> None:
    optimizers = build_optimizers(model, OptimizerConfig(name="muon", learning_rate=3e-3, muon_learning_rate=0.02))
    set_learning_rate(optimizers, 0.5)
    assert {g["lr"] for o in optimizers for g in o.param_groups} == {0.01, 1.5e-3}


def test_unknown_optimizer_is_named_with_the_known_ones(model: BertForPreTraining) -> None:
    with pytest.raises(ConfigError, match="adamw, muon"):
        build_optimizers(model, OptimizerConfig(name="sgd"))


def test_adamw_matches_the_published_update() -> None:
    """One step by hand: p - lr * (m_hat / (sqrt(v_hat) + eps) + decay * p), on a matrix and on a vector."""
    layer = torch.nn.Linear(16, 16)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    (adamw,) = build_optimizers(layer, OptimizerConfig(learning_rate=0.1, weight_decay=0.01))
    for parameter in layer.parameters():
        parameter.grad = torch.randn_like(parameter)
    adamw.step()
    for name, parameter in layer.named_parameters():
        decay = 0.01 if name == "weight" else 0.0
        gradient = parameter.grad
        expected = before[name] * (1 - 0.1 * decay) - 0.1 * gradient / (gradient.abs() + 1e-6)
        torch.testing.assert_close(parameter.detach(), expected)
