"""Losses: equal to the definitions written out, float32 whatever the logits are, one graph with whatever feeds them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from bertwright.config import compose
from bertwright.errors import ConfigError, DataError
from bertwright.objectives.combine import build_objective, for_evaluation
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.mlm import MaskedLanguageModel
from bertwright.objectives.nsp import pair_figures, pair_sums
from bertwright.types import Batch, MaskedBatch, Scores, flat_sums

ROWS, SLOTS, VOCAB = 6, 5, 50


@pytest.fixture
def example() -> MaskedBatch:
    generator = torch.Generator().manual_seed(0)
    weights = (torch.arange(SLOTS) < torch.tensor([5, 4, 1, 2, 5, 3])[:, None]).float()
    return MaskedBatch(
        input_ids=torch.zeros((ROWS, 16), dtype=torch.long),
        token_type_ids=torch.zeros((ROWS, 16), dtype=torch.long),
        attention_mask=torch.ones((ROWS, 16), dtype=torch.bool),
        masked_positions=torch.randint(1, 16, (ROWS, SLOTS), generator=generator),
        masked_labels=torch.randint(VOCAB, (ROWS, SLOTS), generator=generator) * weights.long(),
        masked_weights=weights,
        next_label=torch.tensor([0, 1, 1, 0, 1, 0]),
    )


@pytest.fixture
def scores() -> Scores:
    generator = torch.Generator().manual_seed(1)
    return Scores(
        mlm=torch.randn((ROWS, SLOTS, VOCAB), generator=generator, requires_grad=True),
        nsp=torch.randn((ROWS, 2), generator=generator, requires_grad=True),
    )


def test_parts_equal_the_definitions(scores: Scores, example: MaskedBatch) -> None:
    found = build_objective(ObjectiveConfig(), vocab_size=VOCAB, mask_id=4).loss(scores, example)
    mlm, right, nsp, pairs_right = 0.0, 0, 0.0, 0
    assert example.next_label is not None
    for row in range(ROWS):
        for slot in range(SLOTS):
            if example.masked_weights[row, slot]:
                logits, label = scores.mlm[row, slot].tolist(), int(example.masked_labels[row, slot])
                mlm += math.log(sum(map(math.exp, logits))) - logits[label]
                right += max(logits) == logits[label]
        pair, label = scores.nsp[row].tolist(), int(example.next_label[row])
        nsp += math.log(sum(map(math.exp, pair))) - pair[label]
        pairs_right += max(pair) == pair[label]
    sums = flat_sums(found.parts)
    assert sums["mlm_count"] == 20
    assert sums["nsp_count"] == ROWS
    assert sums["mlm_sum"].item() == pytest.approx(mlm, rel=1e-5)
    assert sums["nsp_sum"].item() == pytest.approx(nsp, rel=1e-5)
    assert sums["mlm_correct"] == right
    assert sums["nsp_correct"] == pairs_right
    assert sums["nsp_random_count"] == 3
    assert found.total.item() == pytest.approx(mlm / 20 + nsp / ROWS, rel=1e-5)


def test_unused_slots_have_no_gradient(scores: Scores, example: MaskedBatch) -> None:
    build_objective(ObjectiveConfig(), vocab_size=VOCAB, mask_id=4).loss(scores, example).total.backward()
    assert scores.mlm.grad is not None
    assert scores.nsp.grad is not None
    used = example.masked_weights > 0
    assert (scores.mlm.grad[~used] == 0).all()
    assert (scores.mlm.grad[used].abs().sum(-1) > 0).all()
    assert (scores.nsp.grad != 0).all()


def test_masking_alone_leaves_pairs_out(scores: Scores, example: MaskedBatch) -> None:
    objective = build_objective(ObjectiveConfig(next_sentence=False), vocab_size=VOCAB, mask_id=4)
    found = objective.loss(scores, example)
    assert objective.rows == "single"
    assert found.total == found.parts["mlm"].sum / found.parts["mlm"].count
    assert set(found.parts) == {"mlm"}


def test_bfloat16_logits_are_judged_in_float32_and_ties_share(example: MaskedBatch) -> None:
    model = MaskedLanguageModel(vocab_size=VOCAB, mask_id=4)
    flat = model.loss(Scores(torch.zeros((ROWS, SLOTS, VOCAB), dtype=torch.bfloat16), None), example)
    assert flat.total.dtype == torch.float32
    assert flat.total.item() == pytest.approx(math.log(VOCAB), rel=1e-6)
    assert flat_sums(flat.parts)["mlm_correct"].item() == pytest.approx(20 / VOCAB, rel=1e-5)
    logits = torch.tensor([[0.0, 1.0], [3.0, 1.0]], dtype=torch.bfloat16)
    summed, pairs = pair_sums(logits, torch.tensor([1, 1]))
    assert pairs["nsp"].correct == 1
    assert summed.dtype == torch.float32


@pytest.mark.parametrize("share", [0.0, 0.2, 0.53, 1.0])
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning", "ignore:y_pred contains classes:UserWarning")
def test_pairs_of_several_batches_have_the_balanced_accuracy_of_scikit_learn(share: float) -> None:
    generator = torch.Generator().manual_seed(3)
    labels = (torch.arange(200) < 200 * share).long()
    logits = torch.randn((200, 2), generator=generator) + torch.stack([-labels, labels], 1) * 0.4
    totals: dict[str, float] = {}
    for rows in torch.randperm(200, generator=generator).split(64):
        for name, value in flat_sums(pair_sums(logits[rows], labels[rows])[1]).items():
            totals[name] = totals.get(name, 0.0) + float(value)
    figures = pair_figures(totals)
    expected = balanced_accuracy_score(labels.numpy(), logits.argmax(-1).numpy())
    assert figures["nsp_balanced_accuracy"] == pytest.approx(expected, abs=1e-6)
    assert figures["nsp_majority"] == pytest.approx(np.bincount(labels.numpy()).max() / 200)


def test_a_constant_answer_has_half_the_balanced_accuracy() -> None:
    parts = pair_sums(torch.tensor([[0.0, 1.0]]).expand(10, 2), torch.tensor([1] * 7 + [0] * 3))[1]
    figures = pair_figures({name: float(value) for name, value in flat_sums(parts).items()})
    assert float(flat_sums(parts)["nsp_correct"]) == 7
    assert figures == {"nsp_balanced_accuracy": 0.5, "nsp_majority": 0.7}


def test_held_out_text_is_masked_as_published_whatever_training_does() -> None:
    """Of the settings of training, only single tokens or whole words, and pairs or none, are those of the measure."""
    trained = compose(
        ObjectiveConfig,
        {"mask_rate": 0.4, "final_mask_rate": 0.2, "mask_share": 1.0, "random_share": 0.0, "next_sentence": False},
    )
    assert for_evaluation(trained) == ObjectiveConfig(next_sentence=False)
    assert for_evaluation(ObjectiveConfig(whole_word=True)) == ObjectiveConfig(whole_word=True)
    assert for_evaluation(ObjectiveConfig(names=("nsp", "mlm"))) == ObjectiveConfig(names=("mlm", "nsp"))


def test_the_loss_traces_into_one_graph(scores: Scores, example: MaskedBatch) -> None:
    objective = build_objective(ObjectiveConfig(), vocab_size=VOCAB, mask_id=4)
    traced = torch.compile(objective.loss, backend="eager", fullgraph=True)
    assert torch.equal(traced(scores, example).total, objective.loss(scores, example).total)


def test_pairs_are_asked_for_where_they_are_missing() -> None:
    ids = torch.zeros((2, 8), dtype=torch.long)
    flags = torch.ones((2, 8), dtype=torch.bool)
    batch = Batch(ids, ids, flags, flags, flags)
    with pytest.raises(DataError, match="one segment"):
        build_objective(ObjectiveConfig(), vocab_size=VOCAB, mask_id=4).corrupt(batch, torch.Generator())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_share": 0.95, "random_share": 0.1}, "more than 1"),
        ({"options": {"mlm": 3}}, "options.mlm"),
        ({"mask_rate": 0.0}, "mask_rate"),
        ({"mask_rate": 1.5}, "mask_rate"),
        ({"whole_words": True}, "whole_word"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(ObjectiveConfig, settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": ("mlm", "clozes")}, r"'clozes'.*mlm"),
        ({"names": ("mlm", "uncertain")}, "mlm and uncertain"),
        ({"names": ("mlm", "nsp", "sop")}, "nsp and sop"),
        ({"names": ("mlm", "mlm")}, "twice"),
        ({"names": ("mlm",), "options": {"nsp": {}}}, "mlm"),
        ({"options": {"mlm": {"rate": 0.2}}}, "unknown setting"),
    ],
)
def test_objectives_that_do_not_go_together_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_objective(compose(ObjectiveConfig, settings), vocab_size=VOCAB, mask_id=4)
