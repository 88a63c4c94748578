"""One optimizer step: several micro-batches are one batch, however unevenly its masked tokens lie in them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import named_size
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.train.parallel.group import ALONE, Group
from bertwright.train.step import Engine, forward_loss_of
from bertwright.types import Batch, MaskedBatch

CPU = torch.device("cpu")


def batch_of(length: int, *, rows: int = 3) -> Batch:
    """Rows of 24 places, of which `length` hold tokens."""
    here = (torch.arange(24) < length).expand(rows, 24)
    text = here & (torch.arange(24) > 0)
    return Batch(
        input_ids=torch.randint(5, 100, (rows, 24)) * here,
        token_type_ids=torch.zeros(rows, 24, dtype=torch.int64),
        attention_mask=here,
        maskable=text,
        word_starts=text,
        next_label=torch.randint(2, (rows,)),
    )


def joined(examples: list[MaskedBatch]) -> MaskedBatch:
    held = [example.tensors() for example in examples]
    return MaskedBatch(**{name: torch.cat([one[name] for one in held]) for name in held[0]})


@pytest.mark.parametrize("pairs", [True, False])
def test_micro_batches_add_up_to_the_loss_of_their_rows_together(pairs: bool) -> None:
    """Rows of 24 tokens ask about four times as many as rows of 6: a token counts the same wherever it stands."""
    torch.manual_seed(0)
    model = BertForPreTraining(named_size("tiny", vocab_size=100, dropout=0.0, attention_dropout=0.0))
    objective = build_objective(ObjectiveConfig(next_sentence=pairs), vocab_size=100, mask_id=4)
    loss = forward_loss_of(model, objective, torch.enable_grad)
    engine = Engine(CPU, seed=1, clip_norm=0.0)
    work = list(zip(Group().slices(2), [batch_of(24), batch_of(6)], strict=True))
    apart = engine.examples(objective, work, step=7, of=2, fraction=0.0)
    assert [int(example.masked_weights.sum()) for example in apart] == [12, 3]
    together = loss(joined([replace(example, normalizer=None) for example in apart]))
    total = torch.stack([loss(example).total for example in apart]).mean()
    torch.testing.assert_close(total, together.total, atol=0.0, rtol=1e-6)
    expected = torch.autograd.grad(together.total, list(model.parameters()), allow_unused=True)
    found = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    for ours, theirs in zip(found, expected, strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_processes_that_share_micro_batches_divide_by_the_counts_of_all() -> None:
    """Two processes with a micro-batch each: what one process would divide both by, they learn from each other."""
    torch.manual_seed(0)
    objective = build_objective(ObjectiveConfig(), vocab_size=100, mask_id=4)
    batches, counts = [batch_of(24), batch_of(6)], []

    class Half(Group):
        def all_reduce(self, values: torch.Tensor) -> torch.Tensor:
            counts.append(values)
            return sum(counts, torch.zeros(3))

    def examples(group: Group) -> list[MaskedBatch]:
        engine = Engine(CPU, seed=1, clip_norm=0.0, group=group)
        work = [(piece, batches[piece.index]) for piece in group.slices(2)]
        return engine.examples(objective, work, step=7, of=2, fraction=0.0)

    whole, first, second = examples(ALONE), examples(Half(0, 2)), examples(Half(1, 2))
    assert len(first) == len(second) == 1
    assert torch.equal(second[0].normalizer, whole[0].normalizer)
    assert torch.equal(second[0].input_ids, whole[1].input_ids)
