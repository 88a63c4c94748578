"""A student projected from its teacher computes about what the teacher does, on rows it was not fitted to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bertwright.distillation.config import StudentConfig
from bertwright.distillation.projection import fit
from bertwright.distillation.student import begin_student, student_shape
from bertwright.distillation.traces import matched_layers, queries_keys_values, side_by_side, trace
from bertwright.errors import ConfigError
from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import build_encoder, named_size
from bertwright.model.config import ModernConfig
from bertwright.types import TokenRows


def rows(count: int, *, seed: int, words: int = 60, length: int = 12) -> list[TokenRows]:
    """Return batches of rows of words that follow one another as in a chain, some shorter than others."""
    random = np.random.default_rng(seed)
    ids = np.zeros((count, length), dtype=np.int64)
    ids[:, 0] = random.integers(5, words, count)
    for at in range(1, length):
        ids[:, at] = 5 + (ids[:, at - 1] * 3 + random.integers(0, 4, count)) % (words - 5)
    mask = np.arange(length)[None] < random.integers(4, length + 1, count)[:, None]
    types = torch.zeros(count, length, dtype=torch.int64)
    return [TokenRows(torch.from_numpy(ids * mask), types, torch.from_numpy(mask))]


@pytest.fixture(scope="module")
def teacher() -> BertForPreTraining:
    """A BERT of three blocks whose weights are large enough to do something."""
    torch.manual_seed(1)
    shape = named_size("tiny", vocab_size=60, layers=3, hidden_size=48, heads=6, intermediate_size=96,
                       max_positions=16, initializer_range=0.15)  # fmt: skip
    model = build_encoder(shape).eval()
    assert isinstance(model, BertForPreTraining)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
    return model


def explained(found: Tensor, target: Tensor, found_there: Tensor, target_there: Tensor) -> float:
    """Return the share of the variance of `target_there` that a linear map of `found_there` gives, fitted elsewhere."""
    matrix, offset = fit(found, target)
    error = (found_there @ matrix + offset - target_there).square().sum()
    return float(1 - error / (target_there - target_there.mean(0)).square().sum())


@torch.no_grad()
def share_explained(teacher: BertForPreTraining, wanted: StudentConfig) -> float:
    """Return how much of the teacher's last states follows from those of a student that has not been trained."""
    shape, taken = student_shape(wanted, teacher.config)
    torch.manual_seed(0)
    student = begin_student(wanted, shape, taken, teacher, rows(256, seed=2))
    parts = []
    for batch in (rows(256, seed=3)[0], rows(128, seed=4)[0]):
        parts += [trace(one, batch).last[batch.attention_mask] for one in (student, teacher)]
    return explained(*parts)


def test_projected_students_begin_far_nearer_to_the_teacher_than_drawn_ones(teacher: BertForPreTraining) -> None:
    projected, drawn = (
        share_explained(teacher, StudentConfig(width=32, start=start)) for start in ("projected", "noise")
    )
    assert projected > 0.65
    assert projected > drawn + 0.2


def test_a_student_of_the_same_width_has_the_blocks_it_takes(teacher: BertForPreTraining) -> None:
    shape, taken = student_shape(StudentConfig(layers=(1, 3)), teacher.config)
    student = begin_student(StudentConfig(), shape, taken, teacher, [])
    batch = rows(4, seed=0)[0]
    with torch.no_grad():
        expected = trace(teacher, batch).hidden[1]
        assert torch.equal(trace(student, batch).hidden[1], expected)
    assert torch.equal(student.blocks[1].outer.weight, teacher.blocks[2].outer.weight)
    assert taken == (1, 3)


def test_a_trace_is_what_the_model_computes(teacher: BertForPreTraining) -> None:
    batch = rows(5, seed=5)[0]
    with torch.no_grad():
        found = trace(teacher, batch)
        for layer in range(4):
            states = teacher.hidden_states(batch.input_ids, batch.token_type_ids, batch.attention_mask, layer=layer)
            assert torch.equal(found.hidden[layer], states)
        query, _, value = queries_keys_values(teacher, found, 2)
        attention = teacher.block(1).attention
        assert torch.allclose(side_by_side(query), attention.query(found.hidden[1]), atol=1e-6)
        assert torch.allclose(side_by_side(value), attention.value(found.hidden[1]), atol=1e-6)


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (StudentConfig(layers=4), "layers"),
        (StudentConfig(layers=(2, 5)), "layers"),
        (StudentConfig(width=50), "width"),
        (StudentConfig(width=20), "width"),
        (StudentConfig(width=24, heads=5), "width"),
    ],
)
def test_shapes_that_the_teacher_cannot_give_are_refused(
    teacher: BertForPreTraining, wanted: StudentConfig, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        student_shape(wanted, teacher.config)


def test_what_cannot_be_projected_is_refused(teacher: BertForPreTraining) -> None:
    shape, taken = student_shape(StudentConfig(width=24, heads=2), teacher.config)
    with pytest.raises(ConfigError, match="start"):
        begin_student(StudentConfig(), shape, taken, teacher, [])
    modern = build_encoder(
        ModernConfig(vocab_size=60, hidden_size=16, layers=2, heads=2, intermediate_size=16, max_positions=16)
    )
    shape, taken = student_shape(StudentConfig(width=8), modern.config)
    with pytest.raises(ConfigError, match="start"):
        begin_student(StudentConfig(width=8), shape, taken, modern, [])
    assert begin_student(StudentConfig(start="noise"), shape, taken, modern, []).config.hidden_size == 8


def test_blocks_are_spread_evenly_and_end_with_the_last() -> None:
    assert matched_layers(4, 6) == (2, 3, 5, 6)
    assert matched_layers(3, 12) == (4, 8, 12)
    assert matched_layers(6, 6) == (1, 2, 3, 4, 5, 6)
