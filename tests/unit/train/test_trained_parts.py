"""What is said to be trained: all of a model, some blocks and the head, adapters."""

from __future__ import annotations

import pytest

from bertwright.model.build import build_encoder, named_size
from bertwright.model.lora import adapt
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned, freeze
from bertwright.train.task_setup.transfer import note_trained, trained_parts


def classifier() -> FineTuned:
    encoder = build_encoder(named_size("tiny", vocab_size=20, layers=4, hidden_size=16, heads=2))
    return FineTuned(encoder, head_type="row", outputs=2, dropout=0.1)


def test_parts_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    model = classifier()
    assert trained_parts(model) == ["embeddings", "blocks 1 to 4", "pooler", "head"]
    note_trained(model)
    assert f"all {sum(p.numel() for p in model.parameters()):,}" in capsys.readouterr().err
    freeze(model, 3)
    assert trained_parts(model) == ["block 4", "pooler", "head"]
    note_trained(model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert f"{trained:,} of " in capsys.readouterr().err
    adapted = classifier()
    adapt(adapted, ("query",), rank=2, alpha=4)
    assert trained_parts(adapted) == ["adapters in blocks 1 to 4", "pooler", "head"]
    encoder = build_encoder(named_size("tiny", vocab_size=20, layers=2, hidden_size=16, heads=2))
    assert trained_parts(SentenceEncoder(encoder, pooling="mean", normalize=True)) == ["embeddings", "blocks 1 to 2"]
