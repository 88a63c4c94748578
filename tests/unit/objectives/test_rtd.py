"""Replaced tokens: draws by the generator's probabilities, labels and loss by hand, embeddings that are shared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import balanced_accuracy_score
from torch.nn import functional

from bertwright.errors import ConfigError
from bertwright.model.bert_family import Electra, ElectraConfig
from bertwright.objectives.combine import build_objective, for_evaluation
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.rtd import ReplacedTokenDetection, drawn, replaced, written
from bertwright.train.auxiliary import ModelWithAuxiliary, ObjectiveWithAuxiliary, auxiliary_of, scaled
from bertwright.train.setup.pretrain_config import resolve
from bertwright.train.step import forward_loss_of
from bertwright.types import Batch, MaskedBatch, Scores, flat_sums, part_figures

VOCAB, MASK = 60, 4
SHAPE = ElectraConfig(
    vocab_size=VOCAB, hidden_size=32, layers=2, heads=4, intermediate_size=64, max_positions=24, dropout=0.0,
    attention_dropout=0.0, discriminator=True,
)  # fmt: skip


def batch_of(rows: int = 6, length: int = 16) -> Batch:
    here = torch.arange(length) < torch.randint(8, length + 1, (rows, 1), generator=torch.Generator().manual_seed(0))
    ids = torch.randint(5, VOCAB, (rows, length), generator=torch.Generator().manual_seed(1)) * here
    text = here & (torch.arange(length) > 0)
    return Batch(ids, ids * 0, here, text, text)


def built(**settings: Any) -> ReplacedTokenDetection:
    config = ObjectiveConfig.model_validate({"names": ("rtd",), **settings})
    objective = build_objective(config, vocab_size=VOCAB, mask_id=MASK)
    assert isinstance(objective, ReplacedTokenDetection)
    return objective


def test_tokens_are_drawn_by_the_probabilities_of_the_generator() -> None:
    """100,000 draws of 60 tokens: chi-square at 10^-4; a share of 2% that is 10% off adds 20 to its 59."""
    logits = 1.5 * torch.randn(VOCAB, generator=torch.Generator().manual_seed(2))
    logits[7] = -torch.inf
    tokens = drawn(logits.expand(100, 1000, -1), torch.Generator().manual_seed(3))
    seen = np.bincount(tokens.flatten().numpy(), minlength=VOCAB)
    expected = logits.double().softmax(0).numpy() * 1e5
    known = expected > 0
    assert seen[7] == 0
    assert stats.chisquare(seen[known], expected[known] * seen.sum() / expected.sum()).pvalue > 1e-4
    alike = drawn(logits.expand(2, 50_000, -1), torch.Generator().manual_seed(4))
    assert abs(float((alike[0] == alike[1]).float().mean()) - float((expected / 1e5) @ (expected / 1e5))) < 0.01


def masked_example(objective: ReplacedTokenDetection) -> tuple[Batch, MaskedBatch]:
    batch = batch_of()
    return batch, objective.auxiliary_batch(batch, torch.Generator().manual_seed(5), 0.0)


def test_what_is_written_where_and_what_counts_as_replaced() -> None:
    objective = built(mask_rate=0.3)
    batch, asked = masked_example(objective)
    tokens = torch.randint(5, VOCAB, asked.masked_labels.shape, generator=torch.Generator().manual_seed(6))
    tokens[0] = asked.masked_labels[0]  # drawn as they were
    example = written(asked, tokens)
    assert torch.equal(example.first_ids, asked.input_ids) if example.first_ids is not None else False
    expected, labels = batch.input_ids.clone(), torch.zeros(batch.input_ids.shape)
    for row, slot in (asked.masked_weights > 0).nonzero().tolist():
        place, token = int(asked.masked_positions[row, slot]), int(tokens[row, slot])
        labels[row, place] = float(token != int(batch.input_ids[row, place]))
        expected[row, place] = token
    assert torch.equal(example.input_ids, expected)
    assert torch.equal(replaced(example), labels)
    assert not labels[0].any()
    assert labels.any()


def test_loss_and_figures_are_those_of_the_definitions() -> None:
    objective = built(mask_rate=0.3, options={"rtd": {"weight": 20.0}})
    _, asked = masked_example(objective)
    generator = torch.randn((*asked.masked_labels.shape, VOCAB), generator=torch.Generator().manual_seed(7))
    example = objective.corrupt(batch_of(), torch.Generator().manual_seed(8), 0.0, (asked, Scores(generator, None)))
    logits = torch.randn(example.input_ids.shape, generator=torch.Generator().manual_seed(9))
    scores = Scores(torch.zeros((6, 0, VOCAB)), None, logits)
    found = objective.loss(scores, example, Scores(generator, None))
    here, labels = example.attention_mask, replaced(example)
    mlm = functional.cross_entropy(
        generator[example.masked_weights > 0], example.masked_labels[example.masked_weights > 0]
    )
    rtd = functional.binary_cross_entropy_with_logits(logits[here], labels[here])
    assert found.total.item() == pytest.approx((mlm + 20 * rtd).item(), rel=1e-5)
    sums = {name: float(value) for name, value in flat_sums(found.parts).items()}
    figures = part_figures(sums) | objective.figures(sums)
    assert figures["rtd_loss"] == pytest.approx(rtd.item(), rel=1e-5)
    assert figures["mlm_loss"] == pytest.approx(mlm.item(), rel=1e-5)
    right = balanced_accuracy_score(labels[here].numpy(), (logits[here] > 0).numpy())
    assert figures["rtd_balanced_accuracy"] == pytest.approx(right, abs=1e-6)
    assert sums["rtd_replaced_count"] == labels.sum()


def test_rows_of_a_batch_add_up_to_its_loss() -> None:
    """A part of the rows weighs by its tokens, not by its rows."""
    objective = built(mask_rate=0.3)
    model, auxiliary = models(objective)
    step = ObjectiveWithAuxiliary(objective, auxiliary, torch.enable_grad)
    example = step.corrupt(batch_of(), torch.Generator().manual_seed(1))
    whole = step.loss(model(example), example).total
    parts = [example.cut(slice(0, 1)), example.cut(slice(1, 6))]
    assert sum(step.loss(model(part), part).total.item() for part in parts) == pytest.approx(whole.item(), rel=1e-5)


def models(objective: ReplacedTokenDetection) -> tuple[Electra, Electra]:
    torch.manual_seed(0)
    model = Electra(SHAPE)
    auxiliary = auxiliary_of(objective, model, seed=0, device=torch.device("cpu"))
    assert isinstance(auxiliary, Electra)
    return model, auxiliary


def test_the_generator_is_narrow_and_shares_the_embeddings() -> None:
    objective = built()
    model, auxiliary = models(objective)
    assert (auxiliary.config.hidden_size, auxiliary.config.heads, auxiliary.config.intermediate_size) == (8, 1, 16)
    assert auxiliary.config.embedding_size == 32
    assert not auxiliary.config.discriminator
    for name in ("words", "positions", "types", "norm"):
        assert auxiliary.get_submodule(f"embeddings.{name}") is model.get_submodule(f"embeddings.{name}")
    trained = ModelWithAuxiliary(model, auxiliary)
    names = [name for name, _ in trained.named_parameters()]
    assert "model.embeddings.words.weight" in names
    assert not [name for name in names if name.startswith("auxiliary.embeddings.") and "project" not in name]
    step = ObjectiveWithAuxiliary(objective, auxiliary, torch.enable_grad)
    example = step.corrupt(batch_of(), torch.Generator().manual_seed(1))
    step.loss(model(example), example).total.backward()
    assert auxiliary.embeddings.project.weight.grad is not None
    assert model.rtd_head.classifier.weight.grad is not None
    assert auxiliary.mlm_head.bias.grad is not None
    assert model.mlm_head.bias.grad is None


@pytest.mark.parametrize("width", [0.25, 1.0])
def test_operations_count_both_models(width: float) -> None:
    objective, seen = built(options={"rtd": {"width": width}}), []

    def flops_of(**given: Any) -> int:
        seen.append(given)
        return 900

    assert objective.flops(flops_of, length=100, progress=0.0) == 900 + 1200
    assert {"masked": 100, "outputs": 1} in seen
    assert {"masked": 15, "width": width, "discriminator": False} in seen
    assert scaled(SHAPE, width=width).hidden_size == 32 * width


def test_a_step_is_one_graph_whatever_the_number_of_masks() -> None:
    objective = built(mask_rate=0.4, final_mask_rate=0.15)
    model, auxiliary = models(objective)
    step = ObjectiveWithAuxiliary(objective, auxiliary, torch.enable_grad)
    graphs: list[int] = []

    def counted(module: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(1)
        return module.forward

    torch.compiler.reset()
    forward_loss = torch.compile(
        forward_loss_of(model, step, torch.enable_grad), fullgraph=True, dynamic=False, backend=counted
    )
    for turn in range(3):
        example = step.corrupt(batch_of(), torch.Generator().manual_seed(turn), turn / 3)
        for slots in example.dynamic_slots:
            torch._dynamo.mark_dynamic(slots, 1)
        expected = step.loss(model(example), example).total
        torch.testing.assert_close(forward_loss(replace(example)).total, expected, atol=1e-4, rtol=0)
        assert len(graphs) == 1


def test_held_out_text_is_masked_as_for_all_and_always_written_over_alike() -> None:
    config = ObjectiveConfig(names=("rtd",), mask_rate=0.4, whole_word=True)
    assert for_evaluation(config).names == ("rtd",)
    objective = build_objective(for_evaluation(config), vocab_size=VOCAB, mask_id=MASK)
    plain = build_objective(ObjectiveConfig(names=("mlm",), whole_word=True), vocab_size=VOCAB, mask_id=MASK)
    example = objective.corrupt(batch_of(), torch.Generator().manual_seed(1))
    assert torch.equal(example.input_ids, plain.corrupt(batch_of(), torch.Generator().manual_seed(1)).input_ids)
    model, auxiliary = models(built())
    step = ObjectiveWithAuxiliary(objective, auxiliary, torch.enable_grad)
    first, second = (flat_sums(step.held_out_loss(model, example).parts) for _ in range(2))
    assert {name: float(value) for name, value in first.items()} == {n: float(v) for n, v in second.items()}
    expected = plain.loss(auxiliary(example), example).parts["mlm"].sum
    assert expected is not None
    assert float(first["mlm_sum"]) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--model.architecture electra"),
        ({"model": {"architecture": "modern"}}, "--model.architecture electra"),
        ({"model": {"architecture": "electra"}, "engine": {"parallel": "fsdp"}}, "ddp"),
    ],
)
def test_what_cannot_find_replaced_tokens_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve("classic", {"objective": {"names": ["rtd"]}, **settings})
