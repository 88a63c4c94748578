"""Optimizers: decay off vectors, Muon on hidden matrices alone, every parameter in exactly one group."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bertwright.errors import ConfigError
from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import named_size
from bertwright.model.task_model import FineTuned, freeze
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.optim.muon import Muon, hidden_matrices, orthogonalised, polar_polynomials
from bertwright.train.optim.optimizers import build_optimizers, set_rates


@pytest.fixture(scope="module")
def model() -> BertForPreTraining:
    return BertForPreTraining(named_size("tiny", vocab_size=128))


@pytest.mark.parametrize("name", ["adamw", "stable-adamw", "lamb", "muon"])
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
    assert len(blocks) == 2 * 6
    assert taken == blocks | {"pooler.dense.weight", "mlm_head.dense.weight"}


def test_muon_takes_no_output_layer_however_many_classes_it_has() -> None:
    """Neither that of a task, nor adapters; where no matrix of a block is trained, there is nothing for it."""
    tagger = FineTuned(
        BertForPreTraining(named_size("tiny", vocab_size=128)), head_type="token", outputs=40, dropout=0.0
    )
    taken = {id(matrix) for matrix in hidden_matrices(tagger)}
    assert id(tagger.classifier.weight) not in taken
    assert len(taken) == 2 * 6
    freeze(tagger, 2)
    with pytest.raises(ConfigError, match=r"optimizer\.name.*muon.*adamw"):
        build_optimizers(tagger, OptimizerConfig(name="muon"))


@pytest.mark.parametrize("name", ["stable-adamw", "lamb", "adamw"])
def test_a_parameter_that_thaws_later_moves_as_far_as_one_that_begins_then(name: str) -> None:
    """Its moments begin with its first step: bias correction goes by its own count, not by that of its group."""
    layers = [torch.nn.Linear(16, 24), torch.nn.Linear(16, 24)]
    both, (alone,) = nn.Sequential(*layers), build_optimizers(layers[0], OptimizerConfig(name=name, learning_rate=0.1))
    start = [p.detach().clone() for p in layers[0].parameters()]
    gradients = [torch.randn_like(p) for p in start]
    for parameter, gradient in zip(layers[0].parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    alone.step()
    expected = [p.detach().clone() for p in layers[0].parameters()]
    (together,) = build_optimizers(both, OptimizerConfig(name=name, learning_rate=0.1))
    for thawed in (False, False, True):
        for parameter, first, gradient in zip(layers[0].parameters(), start, gradients, strict=True):
            parameter.data.copy_(first)
            parameter.grad = gradient.clone() if thawed else None
        for parameter in layers[1].parameters():
            parameter.grad = torch.randn_like(parameter)
        together.step()
    for parameter, one in zip(layers[0].parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), one)


def test_learning_rates_follow_the_factor(model: BertForPreTraining) -> None:
    optimizers = build_optimizers(model, OptimizerConfig(name="muon", learning_rate=3e-3, muon_learning_rate=0.02))
    set_rates(optimizers, factor=0.5, progress=0.0)
    assert {g["lr"] for o in optimizers for g in o.param_groups} == {0.01, 1.5e-3}


def test_unknown_optimizer_is_named_with_the_known_ones(model: BertForPreTraining) -> None:
    with pytest.raises(ConfigError, match="adamw, stable-adamw, lamb, muon"):
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


def test_weight_decay_may_start_at_zero(model: BertForPreTraining) -> None:
    (adamw,) = build_optimizers(model, OptimizerConfig(weight_decay=0.0, final_weight_decay=0.1))
    set_rates([adamw], factor=1.0, progress=1.0)
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.1, 0.0]


def test_weight_decay_moves_with_progress(model: BertForPreTraining) -> None:
    config = OptimizerConfig(
        name="muon", weight_decay=0.02, final_weight_decay=0.0, muon_weight_decay=0.1, final_muon_weight_decay=0.3
    )
    optimizers = build_optimizers(model, config)
    set_rates(optimizers, factor=1.0, progress=0.5)
    assert [[g["weight_decay"] for g in o.param_groups] for o in optimizers] == [[pytest.approx(0.2)], [0.01, 0.0]]


def trained(name: str, gradients: list[dict[str, torch.Tensor]], **settings: float) -> dict[str, torch.Tensor]:
    """Weights of a small layer after steps on given gradients."""
    layer = first_layer()
    (optimizer,) = build_optimizers(layer, OptimizerConfig(name=name, learning_rate=0.1, **settings))
    for gradient in gradients:
        for key, parameter in layer.named_parameters():
            parameter.grad = gradient[key].clone()
        optimizer.step()
    return {key: p.detach() for key, p in layer.named_parameters()}


def first_layer() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(16, 24)


def some_gradients(steps: int) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    shapes = {key: p.shape for key, p in first_layer().named_parameters()}
    return [{key: torch.randn(shape) * (1 + 4 * step) for key, shape in shapes.items()} for step in range(steps)]


def by_formula(gradients: list[dict[str, torch.Tensor]], *, stable: bool) -> dict[str, torch.Tensor]:
    """LAMB or StableAdamW in float64, written as in the papers, a parameter at a time."""
    weights = {key: p.detach().double() for key, p in first_layer().named_parameters()}
    for key, weight in weights.items():
        m = v = torch.zeros_like(weight)
        decay = 0.3 if weight.ndim > 1 else 0.0
        for count, gradient in enumerate(gradients, start=1):
            g = gradient[key].double()
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            mean, square = m / (1 - 0.9**count), v / (1 - 0.999**count)
            ratio = mean / (square.sqrt() + 1e-6)
            if stable:
                rate = 0.1 / max(1.0, float((g * g / square).mean().sqrt()))
                weight = weight * (1 - rate * decay) - rate * ratio
            else:
                ratio = ratio + decay * weight
                trust = float(weight.norm() / ratio.norm()) if weight.ndim > 1 else 1.0
                weight = weight - 0.1 * trust * ratio
        weights[key] = weight
    return weights


@pytest.mark.parametrize(("name", "stable"), [("lamb", False), ("stable-adamw", True)])
def test_adam_relatives_match_the_papers(name: str, stable: bool) -> None:
    """Gradients grow fivefold, so that StableAdamW has something to slow down for."""
    gradients = some_gradients(4)
    ours, expected = trained(name, gradients, weight_decay=0.3), by_formula(gradients, stable=stable)
    for key, weight in ours.items():
        torch.testing.assert_close(weight.double(), expected[key], atol=1e-5, rtol=1e-5)
    plain = trained("adamw", gradients, weight_decay=0.3)
    assert float((plain["weight"] - ours["weight"]).abs().max()) > 0.01


@pytest.mark.parametrize(("iterations", "smallest", "furthest"), [(3, 0.01, 0.28), (4, 0.0032, 0.21), (5, 0.001, 0.14)])
@pytest.mark.parametrize("shape", [(64, 64), (32, 96), (96, 32)])
def test_muon_makes_singular_values_one(
    shape: tuple[int, int], iterations: int, smallest: float, furthest: float
) -> None:
    """Singular values from the smallest aimed at to the norm itself come out as near one as the polynomials can."""
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(3, side, min(shape)))[0] for side in shape)
    values = torch.logspace(0, math.log10(smallest), min(shape))
    norm = float(values.norm()) * 1.05  # each of the iterations divides by 1.01
    matrices = left * values @ right.mT
    reached = values.flip(0) / norm >= smallest
    assert int(reached.sum()) > 10
    for dtype, slack in ((torch.float32, 0.0), (torch.bfloat16, 0.1)):
        came_out = orthogonalised(matrices.to(dtype), polar_polynomials(iterations)).float()
        singular = torch.linalg.svdvals(came_out).sort().values[:, reached]
        assert float((singular - 1).abs().max()) < furthest + slack, dtype


def test_muon_polynomials_are_those_of_the_paper() -> None:
    """Polar Express, section 3: on [l, 1] the first has its error 1 - p(l) at both ends, opposite at the extrema."""
    (a, b, c), *_ = polar_polynomials(5, margin=1.0)
    low = 0.001
    error = 1 - (a * low + b * low**3 + c * low**5)
    places = torch.linspace(low, 1, 100_001, dtype=torch.float64)
    values = a * places + b * places**3 + c * places**5
    assert float((values - 1).abs().max()) == pytest.approx(error, abs=1e-6)
    assert float(values.max()) == pytest.approx(1 + error, abs=1e-6)
    assert float(values[-1]) == pytest.approx(1 + error, abs=1e-6)


def test_muon_is_torchs_with_other_coefficients() -> None:
    """Two steps beside torch.optim.Muon, its polynomial put in ours; its products run in bfloat16, ours in float32."""
    theirs, ours = first_layer(), first_layer()
    settings = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
    reference = torch.optim.Muon([theirs.weight], adjust_lr_fn="original", **settings)  # type: ignore[arg-type]
    muon = Muon([ours.weight], iterations=5, dtype=torch.float32, **settings)
    muon.polynomials = ((3.4445, -4.775, 2.0315),) * 5
    for gradient in some_gradients(2):
        theirs.weight.grad, ours.weight.grad = gradient["weight"].clone(), gradient["weight"].clone()
        reference.step()
        muon.step()
    moved = (first_layer().weight - theirs.weight).detach()
    apart = (ours.weight - theirs.weight).detach()
    assert float(apart.norm() / moved.norm()) < 0.03  # bfloat16 keeps 8 bits


@pytest.mark.parametrize("name", ["adamw", "stable-adamw", "lamb", "muon"])
def test_rates_by_parameter(name: str) -> None:
    blocks = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    model = nn.ModuleDict({"blocks": blocks})
    blocks[1].bias.requires_grad_(False)
    rates = {"blocks.0.weight": 0.5, "blocks.0.bias": 0.5}
    optimizers = build_optimizers(model, OptimizerConfig(name=name), rates=rates)
    peaks = {id(p): g["peak_lr"] for o in optimizers for g in o.param_groups for p in g["params"]}
    assert set(peaks) == {id(p) for p in model.parameters() if p.requires_grad}
    assert peaks[id(blocks[0].weight)] == 0.5 * peaks[id(blocks[1].weight)]
    set_rates(optimizers, factor=0.1, progress=0.0)
    assert {g["lr"] for o in optimizers for g in o.param_groups} == {peak * 0.1 for peak in peaks.values()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    for optimizer in optimizers:
        optimizer.step()


@pytest.mark.parametrize("shape", [(24, 96), (96, 24), (24, 48)])
def test_the_way_over_gram_matrices_gives_what_the_iterations_give(shape: tuple[int, int]) -> None:
    """Long float32 matrices beside the same in float64, which go the usual way; singular values from 1 to 1e-6."""
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(3, side, min(shape)))[0] for side in shape)
    matrices = left * torch.logspace(0, -6, min(shape)) @ right.mT
    for iterations, slack in ((1, 1e-6), (3, 1e-4), (5, 5e-3)):
        polynomials = polar_polynomials(iterations)
        expected = orthogonalised(matrices.double(), polynomials)
        off = float((orthogonalised(matrices, polynomials) - expected).norm() / expected.norm())
        assert off < slack, iterations
