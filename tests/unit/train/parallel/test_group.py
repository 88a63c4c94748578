"""Shares of a step: every row belongs to one process, losses and dropout of the shares are those of the whole."""

from __future__ import annotations

import pytest
import torch

from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import named_size
from bertwright.model.layers.dropout import Dropout, begin_at_row, keep_mask
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.train.held_out import held_out_figures
from bertwright.train.parallel.group import ALONE, Group, launch_name
from bertwright.types import Batch, MaskedBatch


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("micro_batches", [1, 2, 3, 8])
def test_every_row_of_a_step_belongs_to_one_process(size: int, micro_batches: int) -> None:
    rows = 12
    taken = [
        (piece.index, row)
        for rank in range(size)
        for piece in Group(rank, size).slices(micro_batches)
        for row in range(rows)[piece.rows(rows)]
    ]
    assert taken == [(index, row) for index in range(micro_batches) for row in range(rows)]


def test_whole_micro_batches_where_processes_divide_them() -> None:
    assert all(piece.whole for rank in range(4) for piece in Group(rank, 4).slices(8))
    assert [piece.fraction for piece in Group(1, 4).slices(2)] == [0.5]


def batch(rows: int, length: int = 24) -> Batch:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(8, length, (rows, 1), generator=generator)
    attention = torch.arange(length) < lengths
    ids = torch.randint(10, 100, (rows, length), generator=generator) * attention
    return Batch(
        input_ids=ids,
        token_type_ids=torch.zeros_like(ids),
        attention_mask=attention,
        maskable=attention & (torch.arange(length) > 0),
        word_starts=attention,
        next_label=torch.arange(rows) % 2,
    )


def example_of(rows: int, *, pairs: bool = True) -> MaskedBatch:
    objective = build_objective(ObjectiveConfig(next_sentence=pairs), vocab_size=100, mask_id=4)
    return objective.corrupt(batch(rows), torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pairs", [True, False])
def test_losses_and_gradients_of_shares_add_up(pairs: bool) -> None:
    """Rows are asked about different numbers of tokens: a mean of means would differ from the mean of all."""
    torch.manual_seed(0)
    model = BertForPreTraining(named_size("tiny", vocab_size=100, dropout=0.1, attention_dropout=0.1))
    objective = build_objective(ObjectiveConfig(next_sentence=pairs), vocab_size=100, mask_id=4)
    example = example_of(10, pairs=pairs)

    def gradients(shares: list[tuple[MaskedBatch, int]]) -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        total = 0.0
        for share, first in shares:
            torch.manual_seed(5)
            begin_at_row(model, first)
            parts = objective.loss(model(share), share)
            torch.autograd.backward(parts.total)
            total += parts.total.item()
        return total, [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    whole = gradients([(example, 0)])
    shared = gradients(
        [(example.cut(piece.rows(10)), piece.rows(10).start) for r in range(3) for piece in Group(r, 3).slices(1)]
    )
    assert shared[0] == pytest.approx(whole[0], rel=1e-6)
    for ours, theirs in zip(shared[1], whole[1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_dropout_of_later_rows_is_that_of_the_whole_batch() -> None:
    shape = torch.Size((8, 5, 6))
    torch.manual_seed(3)
    whole = keep_mask(shape, 0.3, device=torch.device("cpu"))
    torch.manual_seed(3)
    later = keep_mask(torch.Size((3, 5, 6)), 0.3, device=torch.device("cpu"), first_row=5)
    assert torch.equal(later, whole[5:])
    assert Dropout(0.1).first_row == 0


def test_every_held_out_example_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five examples among two processes: three forward passes each, and one of them counts nothing."""
    torch.manual_seed(0)
    model = BertForPreTraining(named_size("tiny", vocab_size=100))
    objective = build_objective(ObjectiveConfig(), vocab_size=100, mask_id=4)
    examples = [example_of(rows) for rows in (2, 3, 4, 5, 6)]
    whole = held_out_figures(model, objective, examples, device=torch.device("cpu"))
    added: list[dict[str, float]] = []

    class Half(Group):
        def total(self, figures: dict[str, float]) -> dict[str, float]:  # type: ignore[override]
            added.append(dict(figures))
            return {name: sum(one[name] for one in added) for name in figures}

    for rank in range(2):
        shared = held_out_figures(model, objective, examples, device=torch.device("cpu"), group=Half(rank, 2))
    assert added[0]["nsp_count"] + added[1]["nsp_count"] == 20
    assert shared == pytest.approx(whole, abs=1e-5)


def test_a_run_of_one_process_is_given_back_what_it_gives() -> None:
    figures = {"tokens": 3.0}
    assert ALONE.total(figures) is figures
    values = torch.ones(2)
    assert ALONE.all_reduce(values) is values
    assert ALONE.any(True)
    assert ALONE.broadcast(0.1) == 0.1
    assert ALONE.gathered(b"ab") == [b"ab"]


def test_a_launch_has_a_name_under_torchrun_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launch_name() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    assert launch_name() == "job-7"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    name = launch_name()
    assert name is not None
    assert name == launch_name()
    assert ":" in name
