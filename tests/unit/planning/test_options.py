"""Options of a plan: repeated text counts for less, memory follows the shape, odd shapes are warned of."""

import math
from dataclasses import replace

import pytest

from bertwright.errors import UsageError
from bertwright.model.config import BertConfig
from bertwright.planning.gpus import GPUS, gpu_named
from bertwright.planning.law import fit_law, read_runs
from bertwright.planning.memory import step_memory
from bertwright.planning.options import FITTED, RUNS, TOKENS_A_WEIGHT, Option, best, fresh_tokens, law_of, option_of
from bertwright.planning.shapes import shape_warnings
from bertwright.train.setup.step_time import StepTime

SHAPE = BertConfig(vocab_size=8192, layers=4, hidden_size=256, heads=4, intermediate_size=1024)
STEP = StepTime(seconds=0.5, tokens=4000.0, flops=1e11, rows_per_epoch=64_000)


def _option(shape: BertConfig = SHAPE, step: StepTime = STEP, seconds: float = 1200.0, **given: float) -> Option:
    return option_of(
        "mini", shape, step, law=law_of("en")[0], seconds=seconds, weights=5_529_090, rows=32, length=128, masked=38,
        bytes_each=2, device="cpu", **given,
    )  # fmt: skip


@pytest.mark.parametrize("language", FITTED)
def test_the_runs_behind_the_law_are_of_several_sizes_and_lengths_and_near_it(language: str) -> None:
    runs = read_runs([RUNS], language=language)
    law = fit_law(runs)
    assert len(set(runs.sizes.tolist())) >= 3
    assert abs(law.residuals).max() < 0.05
    low, high = law.interval(3e6, 1e7)
    assert low < law.loss(3e6, 1e7) < high


def test_a_language_without_runs_has_the_law_of_english() -> None:
    (law, known), (english, _) = law_of("de"), law_of("en")
    assert not known
    assert law.loss(3e6, 1e7) == english.loss(3e6, 1e7)


def test_steps_tokens_and_passes_follow_from_the_time_of_a_step() -> None:
    option = _option()
    assert option.steps == 2160  # 0.9 of 1,200 seconds
    assert option.tokens == 2160 * 4000
    assert option.passes == pytest.approx(2160 * 32 / 64_000)
    assert option.interval[0] < option.loss < option.interval[1]
    assert _option(seconds=7200.0).loss < option.loss


def test_repeated_text_is_worth_less_than_fresh_text_and_more_than_none() -> None:
    few = replace(STEP, rows_per_epoch=640)  # a hundredth of the text
    assert _option(step=few).loss > _option().loss
    assert fresh_tokens(5e6, 1e6) < 5e6
    assert fresh_tokens(5e6, 1e6) > 0.85 * 5e6  # four repeats are worth nearly as much, as published
    assert fresh_tokens(math.inf, 1e6) < 17e6


def test_of_sizes_that_are_as_good_the_smallest_is_best() -> None:
    small, large = (
        replace(_option(), size=name, body=body) for name, body in (("small", 10_000_000), ("large", 10**9))
    )
    assert best([replace(small, loss=2.503), replace(large, loss=2.5)]).size == "small"
    assert best([replace(small, loss=2.6), replace(large, loss=2.5)]).size == "large"


def test_a_size_with_more_tokens_a_weight_than_there_is_use_for_is_left_to_a_larger_one() -> None:
    tokens = TOKENS_A_WEIGHT[1] * 10_000_000 + 1.0
    small, large = (
        replace(_option(), size=name, body=body, fresh=tokens, loss=loss)
        for name, body, loss in (("small", 10_000_000, 2.0), ("large", 10**8, 2.1))
    )  # fmt: skip
    assert best([small, large]).size == "large"
    assert best([small]).size == "small"


def test_memory_grows_with_the_batch_and_micro_batches_make_a_step_fit() -> None:
    def memory(rows: int) -> int:
        return step_memory(SHAPE, weights=5_529_090, rows=rows, length=128, masked=38, bytes_each=2)

    state = memory(0)
    assert state == 20 * 5_529_090
    assert memory(32) - state == 2 * (memory(16) - state)
    limited = _option(limit=float(memory(8)))
    assert limited.accumulation == 4
    assert limited.memory == memory(8)
    assert _option(gpus=4).memory == memory(8)
    split = _option(gpus=4, limit=float(memory(4)))  # each of four works on two micro-batches of eight
    assert (split.accumulation, split.memory) == (8, memory(4))


def test_widths_and_heads_that_products_do_badly_with_are_named() -> None:
    odd = SHAPE.model_copy(update={"hidden_size": 250, "heads": 10, "intermediate_size": 1000})
    width, inner, heads = shape_warnings(odd, device="cuda")
    assert "250" in width
    assert "256" in width
    assert "1000" in inner
    assert "25 " in heads
    assert shape_warnings(odd, device="cpu") == [heads.replace("multiple of 8", "multiple of 16").replace("24", "32")]
    assert shape_warnings(SHAPE, device="cpu") == shape_warnings(SHAPE, device="cuda") == []


def test_gpus_have_sources_and_an_unknown_one_is_refused_with_their_names() -> None:
    assert all(gpu.flops > 1e12 and gpu.memory >= 16e9 and len(gpu.source) > 20 for gpu in GPUS.values())
    assert gpu_named("H100").rate(768) == pytest.approx(0.45 * 989.4e12)
    assert gpu_named("h100").rate(256) == pytest.approx(0.15 * 989.4e12)
    assert {name for name, gpu in GPUS.items() if gpu.precision == "fp16"} == {"t4", "v100"}
    with pytest.raises(UsageError, match="rtx4090"):
        gpu_named("voodoo2")
