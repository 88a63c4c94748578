"""Scoring in bfloat16 first: the labels of float32, by asking again where two answers are near."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.device import Precision
from bertwright.inference import bf16_rescoring
from bertwright.inference.bf16_rescoring import FEWEST, Bf16Rescorer, class_margin
from bertwright.inference.scoring import score_rows
from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import build_encoder
from bertwright.model.config import BertConfig, ModernConfig
from bertwright.model.encoder import HeadType
from bertwright.model.task_model import FineTuned

VOCAB, CPU = 97, torch.device("cpu")


@pytest.fixture(autouse=True)
def _bfloat16_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16_rescoring, "has_bfloat16", lambda _: True)


def random_model(part: HeadType) -> FineTuned:
    torch.manual_seed(0)
    shape = BertConfig(vocab_size=VOCAB, hidden_size=32, layers=2, heads=4, intermediate_size=64, max_positions=40)
    model = FineTuned(BertForPreTraining(shape), head_type=part, outputs=3, dropout=0.1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def some_rows(part: HeadType, count: int = FEWEST + 100) -> LabelledRows:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 30, size=count)
    positions = [np.array([0]) if part == "row" else np.arange(1, length - 1) for length in lengths]
    return LabelledRows(
        ids=random.integers(5, VOCAB, size=int(lengths.sum())).astype(np.uint32),
        lengths=lengths,
        first_lengths=lengths,
        positions=np.concatenate(positions),
        num_targets=np.array([len(places) for places in positions]),
        targets=np.zeros(sum(map(len, positions)), dtype=np.int64),
        pad=0,
    )


def scored(part: HeadType, precision: Precision) -> np.ndarray:
    score = Bf16Rescorer(random_model(part), device=CPU, margin=class_margin, precision=precision)
    return score(some_rows(part))


@pytest.mark.parametrize("part", ["row", "token"])
def test_the_labels_of_float32(part: HeadType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16_rescoring, "TOO_MANY", 1.1)
    exact = score_rows(random_model(part), some_rows(part), device=CPU)
    auto, half = scored(part, "auto"), scored(part, "bf16")
    assert (half.argmax(-1) != exact.argmax(-1)).any(), "bfloat16 alone changes no label here: nothing is tested"
    np.testing.assert_array_equal(auto.argmax(-1), exact.argmax(-1))
    assert not np.allclose(auto, exact, atol=1e-5)
    np.testing.assert_allclose(scored(part, "fp32"), exact, atol=1e-5)


def test_where_most_is_in_doubt_nothing_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16_rescoring, "TOO_MANY", 0.0)
    exact = score_rows(random_model("row"), some_rows("row"), device=CPU)
    np.testing.assert_allclose(scored("row", "auto"), exact, atol=1e-5)


def test_few_rows_and_numbers_stay_in_float32() -> None:
    for margin, count in ((class_margin, FEWEST - 1), (None, FEWEST)):
        rows = some_rows("row", count)
        score = Bf16Rescorer(random_model("row"), device=CPU, margin=margin, precision="auto")
        np.testing.assert_allclose(score(rows), score_rows(random_model("row"), rows, device=CPU), atol=1e-5)


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_the_mean_of_a_row_is_read_in_the_precision_of_the_weights(precision: Precision) -> None:
    """ModernBERT's head over means: the mean is taken in float32, and goes on as what the weights are."""
    torch.manual_seed(0)
    config = ModernConfig(vocab_size=VOCAB, hidden_size=32, layers=2, heads=4, intermediate_size=64, pooling="mean")
    model = FineTuned(build_encoder(config), head_type="row", outputs=3, dropout=0.0).eval()
    exact = score_rows(model, some_rows("row"), device=CPU)
    predicted = Bf16Rescorer(model, device=CPU, margin=class_margin, precision=precision)(some_rows("row"))
    np.testing.assert_allclose(predicted, exact, atol=0.05)
    assert (predicted != exact).any()


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    scored("row", "auto")
    assert torch.get_num_threads() == before


def test_the_margin_is_between_the_two_largest() -> None:
    np.testing.assert_allclose(class_margin(np.array([[1.0, 4.0, 2.5], [0.0, 0.0, -9.0]])), [1.5, 0.0])


def test_the_compiler_works_after_threads_have_asked() -> None:
    """Scoring from several threads leaves the compiler as it was."""
    scored("row", "auto")
    counter = CompileCounter()
    torch.compile(lambda values: values + 1, backend=counter)(torch.ones(2))
    assert counter.frame_count == 1
