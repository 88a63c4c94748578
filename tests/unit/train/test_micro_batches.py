"""Batches split for memory: gradients, losses and dropout of the whole batch, whatever the task, compiled or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bertwright.batch_layout import Places
from bertwright.errors import TrainingError
from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import BertConfig
from bertwright.model.deberta import Deberta, DebertaConfig
from bertwright.model.encoder import kept_bytes
from bertwright.model.layers.dropout import begin_at_row, follow_rows, keep_mask
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.embedding.task import Embed
from bertwright.tasks.question_answering.task import Answer
from bertwright.tasks.regression.task import Regress
from bertwright.tasks.tagging.task import Tag
from bertwright.train import micro_batches
from bertwright.train.micro_batches import MicroBatches, free_memory, machine_memory, room_for, room_on_gpu
from bertwright.train.parallel.group import BatchSlice
from bertwright.train.step import Engine
from bertwright.train.task_setup.r_drop import RDrop
from bertwright.types import UNASKED, LabelledBatch, PairBatch, SentenceBatch, TokenRows

CPU, ROWS, LENGTH = torch.device("cpu"), 7, 12
SHAPE = BertConfig(vocab_size=60, hidden_size=32, layers=2, heads=4, intermediate_size=64, max_positions=LENGTH)
DISTANT = DebertaConfig(
    **SHAPE.model_dump(exclude={"type_vocab_size"}) | {"position_buckets": 4, "initializer_range": 0.3}
)
"""Its blocks drop units of vectors that all rows share."""


def rows_of(count: int) -> TokenRows:
    mask = torch.arange(LENGTH) < torch.randint(5, LENGTH + 1, (count, 1))
    return TokenRows(torch.randint(5, 60, (count, LENGTH)) * mask, torch.zeros(count, LENGTH, dtype=torch.long), mask)


def labelled(requested: torch.Tensor | None, targets: torch.Tensor) -> LabelledBatch:
    rows = rows_of(ROWS)
    return LabelledBatch(rows.input_ids, rows.token_type_ids, rows.attention_mask, requested, targets)


def case(name: str) -> tuple[torch.nn.Module, Any, TokenRows]:
    """Return a model that drops units, a task and a batch."""
    torch.manual_seed(0)
    encoder = Deberta(DISTANT) if name == "deberta" else BertForPreTraining(SHAPE)
    first, classes = torch.zeros(ROWS, 1, dtype=torch.long), torch.randint(0, 3, (ROWS, 1))
    if name == "embed":
        rows = rows_of(2 * ROWS)
        texts = torch.arange(2 * ROWS).view(2, ROWS)
        batch = SentenceBatch(rows.input_ids, rows.token_type_ids, rows.attention_mask, texts)
        model: torch.nn.Module = SentenceEncoder(encoder, pooling="mean", normalize=True)
        return model.train(), Embed("pairs", ("accuracy",), 0.05, True), batch
    if name == "tag":
        positions = torch.arange(4).expand(ROWS, 4).contiguous()
        targets = torch.randint(0, 3, (ROWS, 4))
        targets[0] = UNASKED  # a row in which nothing is asked
        targets[3, 2:] = UNASKED
        return (
            FineTuned(encoder, head_type="token", outputs=3, dropout=0.1).train(),
            Tag.from_labels(["O", "B-X", "I-X"]),
            labelled(positions, targets),
        )
    if name == "answer":
        return (
            FineTuned(encoder, head_type="span", outputs=2, dropout=0.1).train(),
            Answer(),
            labelled(None, torch.randint(0, 5, (ROWS, 2))),
        )
    outputs = 1 if name == "regress" else 3
    model = FineTuned(encoder, head_type="row", outputs=outputs, dropout=0.1).train()
    if name == "regress":
        return model, Regress.from_labels(["score"]), labelled(first, torch.rand(ROWS, 1))
    task = Classify.from_labels(["a", "b", "c"])
    if name == "weighted":
        task = replace(task, weights=np.array([0.5, 1.0, 4.0], dtype=np.float32))
    return model, RDrop(task, alpha=0.5) if name == "r-drop" else task, labelled(first, classes)


def gradients(
    model: torch.nn.Module, task: Any, batch: TokenRows, rows: int | None
) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Return the figures of a step and its gradients, by so many rows at a time."""
    engine = Engine(CPU, seed=1, clip_norm=0.0)
    if rows is not None:
        engine.micro_batches = MicroBatches(model, task, torch.enable_grad, lambda length: 1, lambda length: rows)
        engine.begin_at_row = begin_at_row
        follow_rows(model)
    model.zero_grad(set_to_none=True)
    figures = engine.backward(model, task, [(BatchSlice(0), batch)], step=3, of=1, fraction=0.0)
    return {n: float(v) for n, v in figures.items()}, [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", ["classify", "tag", "answer", "embed"])
@pytest.mark.parametrize("rows", [None, 3])
def test_blocks_computed_again_have_the_same_gradient(name: str, rows: int | None) -> None:
    """Dropout included, in a batch or in parts of it; what is kept in between is a fraction."""
    model, task, batch = case(name)
    expected, whole = gradients(model, task, batch, None)
    kept = bytes_kept(model, batch)
    model.encoder.recompute = True
    figures, parts = gradients(model, task, batch, rows)
    assert figures == pytest.approx(expected, rel=1e-5, abs=1e-6)
    size = float(torch.stack([one.norm() for one in whole]).norm())
    for one, other in zip(parts, whole, strict=True):
        assert float((one - other).norm()) <= 1e-5 * size
    assert bytes_kept(model, batch) < 0.4 * kept
    assert model.eval()(batch).isfinite().all()


def bytes_kept(model: torch.nn.Module, batch: TokenRows) -> int:
    """Return the bytes of the tensors that a forward pass keeps for the backward pass, weights not counted."""
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(batch)
    return sum(kept.values())


@pytest.mark.parametrize("name", ["classify", "weighted", "regress", "tag", "answer", "embed", "r-drop", "deberta"])
@pytest.mark.parametrize("rows", [1, 3])
def test_parts_have_the_gradient_of_the_whole(name: str, rows: int) -> None:
    """Also where a part is asked nothing, classes have weights, and rows are compared or have units in common."""
    model, task, batch = case(name)
    expected, whole = gradients(model, task, batch, None)
    figures, parts = gradients(model, task, batch, rows)
    if name == "weighted":  # a weighted mean times a count adds up to no sum
        del figures["classify_sum"], expected["classify_sum"]
    assert figures == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert len(parts) == len(whole)
    size = float(torch.stack([one.norm() for one in whole]).norm())
    for one, other in zip(parts, whole, strict=True):
        assert float((one - other).norm()) <= 1e-5 * size


def test_a_row_of_a_tensor_drops_what_a_number_does() -> None:
    shape = torch.Size((3, 5, 6))
    torch.manual_seed(3)
    expected = keep_mask(shape, 0.3, device=CPU, first_row=5)
    torch.manual_seed(3)
    assert torch.equal(keep_mask(shape, 0.3, device=CPU, first_row=torch.tensor(5, dtype=torch.int32)), expected)


def test_batches_are_cut_into_parts_of_like_size() -> None:
    model, task, batch = case("classify")
    parts = MicroBatches(model, task, torch.enable_grad, lambda length: length, lambda length: 2 * LENGTH)
    assert [(part.start, part.stop) for part in parts.slices(batch)] == [(0, 1), (1, 3), (3, 5), (5, 7)]
    assert len(replace(parts, room=lambda length: 1).slices(batch)) == ROWS
    assert len(replace(parts, room=lambda length: ROWS * LENGTH).slices(batch)) == 1
    kept = replace(parts, room=lambda length: ROWS * LENGTH, fewest=3)
    assert [(part.start, part.stop) for part in kept.slices(batch)] == [(0, 2), (2, 4), (4, 7)]
    assert len(replace(kept, fewest=2 * ROWS).slices(batch)) == ROWS


def test_a_row_of_translation_is_as_long_as_its_longer_side() -> None:
    model, task, batch = case("classify")
    parts = MicroBatches(model, task, torch.enable_grad, lambda length: length, lambda length: 4 * LENGTH)
    ids, targets = batch.input_ids, torch.ones(ROWS, 4 * LENGTH, dtype=torch.int64)
    pair = PairBatch(ids, ids, ids > 0, decoder_ids=targets, labels=targets, real=Places.of(targets != UNASKED))
    assert len(parts.slices(pair)) == ROWS > len(parts.slices(batch))


def test_a_machine_with_too_little_memory_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model, longest = BertForPreTraining(SHAPE), 512
    state = 16 * sum(p.numel() for p in model.parameters())
    row = kept_bytes(SHAPE, longest)
    for machine, expected in ((None, micro_batches.ROOM), (2 * (state + 2 * row), 2 * row), (2 * state, row)):
        monkeypatch.setattr(micro_batches, "free_memory", lambda: state + row)
        monkeypatch.setattr(micro_batches, "machine_memory", lambda machine=machine: machine)
        room = room_for(model, lambda length: kept_bytes(SHAPE, length), longest=longest, what="training m")
        assert room(longest) == expected
    monkeypatch.setattr(micro_batches, "free_memory", lambda: state + row - 1)
    with pytest.raises(TrainingError, match=r"512 tokens.*free"):
        room_for(model, lambda length: kept_bytes(SHAPE, length), longest=longest, what="training m")


def test_free_memory_is_that_of_the_container_where_it_has_less(tmp_path: Path) -> None:
    meminfo, limit, used = tmp_path / "meminfo", tmp_path / "memory.max", tmp_path / "memory.current"
    assert free_memory(meminfo, ((limit, used, "inactive_file"),)) is None
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    assert free_memory(meminfo, ((limit, used, "inactive_file"),)) == 4_096_000
    limit.write_text("3000000\n")
    used.write_text("2500000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 100000\n")
    assert free_memory(meminfo, ((limit, used, "inactive_file"),)) == 600_000
    assert machine_memory(meminfo, ((limit, used, "inactive_file"),)) == 3_000_000
    limit.write_text("max\n")
    assert free_memory(meminfo, ((limit, used, "inactive_file"),)) == 4_096_000


def test_a_gpu_has_room_for_what_its_weights_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BertForPreTraining(SHAPE)
    weights = sum(4 * parameter.numel() for parameter in model.parameters())
    card = SimpleNamespace(total_memory=10 * weights)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    assert room_on_gpu(model, CPU)(LENGTH) == 9 * weights - 5 * weights
    model.requires_grad_(False)
    assert room_on_gpu(model, CPU)(LENGTH) == 9 * weights - weights
