"""Causal phases: each next token of a document is the label, and other phases do what the run's objective does."""

from __future__ import annotations

import math

import pytest
import torch

from bertwright.errors import ConfigError
from bertwright.objectives.causal import CausalPhases, next_tokens
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.setup.pretrain_config import resolve
from bertwright.types import Batch, Scores, flat_sums

VOCAB, PHASES = 20, [{"length": 8, "rows": 2, "share": 0.25, "causal": True}, {"length": 8, "rows": 2, "share": 0.75}]
IDS = torch.tensor([[2, 11, 12, 3, 13, 14, 3, 0], [2, 15, 3, 2, 16, 17, 3, 0]])


def batch_of(*, packed: bool) -> Batch:
    """A pair and [CLS] A [SEP] [CLS] B [SEP]; the first is a pair where rows are not packed."""
    text = IDS > 4
    documents = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 2, 2, 2, 2, 0]]) if packed else None
    return Batch(IDS, IDS * 0, IDS > 0, text, text, None if packed else torch.tensor([0, 1]), documents)


@pytest.mark.parametrize("packed", [True, False])
def test_labels_are_the_next_tokens_of_text(packed: bool) -> None:
    batch = batch_of(packed=packed)
    example = next_tokens(batch)
    assert example.causal
    assert torch.equal(example.input_ids, IDS)
    assert torch.equal(example.masked_positions, torch.arange(7).repeat(2, 1))
    asked = [[int(place) for place in row.nonzero()] for row in example.masked_weights]
    assert asked == [[0, 1, 3, 4], [0, 3, 4]]
    assert example.masked_labels[0].tolist() == [11, 12, 0, 13, 14, 0, 0]
    assert example.masked_labels[1].tolist() == [15, 0, 0, 16, 17, 0, 0]
    assert example.dynamic_slots == ()
    assert example.cut(slice(0, 1)).causal
    assert example.to(torch.device("cpu")).causal


def test_a_phase_decides_what_is_predicted() -> None:
    schedule = ScheduleConfig.model_validate({"steps": 8, "phases": PHASES})
    masked = build_objective(ObjectiveConfig(mask_rate=0.3), vocab_size=VOCAB, mask_id=4)
    objective = CausalPhases(masked, schedule.is_causal)
    batch, generator = batch_of(packed=False), torch.Generator()
    for progress, causal in ((0.0, True), (0.2499, True), (schedule.start_of(1), False), (1.0, False)):
        assert objective.corrupt(batch, generator.manual_seed(1), progress).causal is causal
        assert objective.masked_slots(8, progress) == (7 if causal else 3)
        assert objective.flops(lambda *, masked: masked, length=8, progress=progress) == (7 if causal else 3)
    assert objective.rows == "pairs"
    plain = masked.corrupt(batch, generator.manual_seed(1), 0.5)
    assert torch.equal(objective.corrupt(batch, generator.manual_seed(1), 0.5).input_ids, plain.input_ids)


def test_the_loss_is_the_mean_over_next_tokens_and_pairs_wait() -> None:
    masked = build_objective(ObjectiveConfig(), vocab_size=VOCAB, mask_id=4)
    objective, example = CausalPhases(masked, lambda _: True), next_tokens(batch_of(packed=False))
    logits = torch.randn((2, 7, VOCAB), generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = objective.loss(Scores(logits, None), example)
    expected = []
    for row, place in example.masked_weights.nonzero().tolist():
        values = logits[row, place].tolist()
        expected.append(math.log(sum(map(math.exp, values))) - values[int(IDS[row, place + 1])])
    assert found.total.item() == pytest.approx(sum(expected) / 7, rel=1e-5)
    assert set(flat_sums(found.parts)) == {"causal_sum", "causal_count", "causal_correct"}
    assert flat_sums(found.parts)["causal_count"] == 7


def test_a_run_that_ends_causal_is_refused() -> None:
    with pytest.raises(ConfigError, match="causal"):
        resolve("classic", {"schedule": {"steps": 3, "phases": [{**PHASES[0], "share": 1.0}]}})
    assert resolve("classic", {"schedule": {"steps": 3, "phases": PHASES}}).schedule.phases[0].causal
