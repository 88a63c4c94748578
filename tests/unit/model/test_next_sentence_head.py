"""ModernBERT's next-sentence head by itself: it changes no other weight, and the optimizers treat it as BERT's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bertwright.model.build import build_encoder, named_size
from bertwright.model.config import ModelConfig, training_flops
from bertwright.model.modernbert import ModernForMaskedLM
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.optim.optimizers import build_optimizers
from bertwright.types import MaskedBatch, flat_sums


def shape(**over: Any) -> ModelConfig:
    return named_size("tiny", vocab_size=131, architecture="modern", **over)


def drawn(**over: Any) -> ModernForMaskedLM:
    torch.manual_seed(7)
    model = build_encoder(shape(**over))
    assert isinstance(model, ModernForMaskedLM)
    return model


def test_all_other_weights_start_as_without_it() -> None:
    without, beside = drawn().state_dict(), drawn(next_sentence=True).state_dict()
    assert list(beside)[: len(without)] == list(without)
    assert all(torch.equal(beside[name], tensor) for name, tensor in without.items())
    assert set(beside) - set(without) == {
        f"nsp_head.{name}" for name in ("dense.weight", "norm.weight", "classifier.weight", "classifier.bias")
    }
    dense, bias = beside["nsp_head.dense.weight"], beside["nsp_head.classifier.bias"]
    assert 0.015 < float(dense.std()) < 0.02
    assert not bias.any()


def test_muon_takes_its_dense_layer_and_adamw_its_outputs() -> None:
    model = drawn(next_sentence=True)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    muon, adamw = build_optimizers(model, OptimizerConfig(name="muon"))
    of_muon, of_adamw = (
        {names[id(one)] for group in optimizer.param_groups for one in group["params"]} for optimizer in (muon, adamw)
    )
    assert "nsp_head.dense.weight" in of_muon
    assert {"nsp_head.classifier.weight", "nsp_head.classifier.bias", "nsp_head.norm.weight"} <= of_adamw


@pytest.mark.parametrize("head_type", ["row", "token", None])
def test_tasks_go_on_without_it(head_type: Any) -> None:
    model = drawn(next_sentence=True)
    model.drop_heads(head_type)
    assert not model.has_nsp_head
    assert model.nsp_logits(torch.zeros(1, 1, 128)) is None
    assert not any("nsp_head" in name for name, _ in model.named_parameters())


def test_its_work_is_counted() -> None:
    """[CLS] through the last block, the dense layer and the two outputs, of each row; forward and twice backward."""
    without, beside = (training_flops(shape(next_sentence=head), rows=4, length=32, masked=5) for head in (False, True))
    width, block = 128, shape().block_weights
    through_block = 2 * (block - 2 * width**2) + 4 * 32 * width
    assert beside - without == 3 * 4 * (through_block + 2 * (width**2 + 2 * width))


def test_it_does_not_go_with_averaged_rows() -> None:
    with pytest.raises(ValueError, match=r"\[CLS\].*'mean'"):
        shape(next_sentence=True, pooling="mean")


def test_both_heads_learn_a_batch_by_heart() -> None:
    torch.manual_seed(0)
    model = build_encoder(shape(hidden_size=32, heads=2, intermediate_size=48, next_sentence=True)).train()
    rows, length = 8, 24
    example = MaskedBatch(
        input_ids=torch.randint(5, 131, (rows, length)),
        token_type_ids=torch.zeros(rows, length, dtype=torch.long),
        attention_mask=torch.arange(length)[None] < torch.randint(12, length + 1, (rows, 1)),
        masked_positions=torch.randint(1, 12, (rows, 3)),
        masked_labels=torch.randint(131, (rows, 3)),
        masked_weights=torch.ones(rows, 3),
        next_label=torch.tensor([0, 1] * (rows // 2)),
    )
    objective = build_objective(ObjectiveConfig(), vocab_size=131, mask_id=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        parts = objective.loss(model(example), example)
        optimizer.zero_grad()
        parts.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        sums = flat_sums(parts.parts)
        losses.append((float(sums["mlm_sum"]) / 24, float(sums["nsp_sum"]) / rows))
    assert losses[0][0] > 4
    assert losses[0][1] == pytest.approx(0.69, abs=0.1)
    assert losses[-1][0] < 1
    assert losses[-1][1] < 0.05
