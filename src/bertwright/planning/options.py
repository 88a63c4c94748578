"""Turns what a step of each size costs into options: how far a run of so many seconds gets, and what loss to expect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertwright.model.config import ModelConfig
from bertwright.planning.law import Law, fit_law, read_runs
from bertwright.planning.memory import step_memory
from bertwright.planning.shapes import shape_warnings
from bertwright.train.setup.step_time import StepTime

RUNS = Path(__file__).with_name("runs.jsonl")
"""Our own finished runs, made by benchmarks/scaling.py on CPU cores with AVX512-bf16: recipe classic-fast, vocabularies
of 8,192."""
FITTED = ("en", "zh")
"""Languages of those runs."""
USEFUL = 0.9
"""Fraction of a run's minutes in which it trains; the rest is evaluation and checkpoints (0.89 of 20 minutes)."""
COMPILED = 1.15
"""How much faster compiled steps of a CPU are, where a run is long enough to compile: 10 to 20% less time."""
REPEATS_WORTH = 15.4
"""Passes after the first whose worth has fallen to 1/e (Muennighoff et al., 2023, "Scaling Data-Constrained Language
Models", equation 5: R*_D). Measured on models that predict next tokens; masks are drawn anew in each pass, so masked
ones should bear more."""
USUAL_TOKENS, BATCH_POWER = 12e6, 0.4
"""Tokens of a run that the recipe's batch was chosen for (20 minutes on 2 cores), and the power of tokens that the best
batch grows with: about 0.4, whatever the size (Bergsma et al., 2025, "Power Lines", arXiv:2505.13738, section 3)."""

TOKENS_A_WEIGHT = (100, 2000)
"""Tokens a weight at which the compute of a masked model is best spent: 10 to 100 times those of causal ones, 10 to 20
(Dervishi et al., 2025, "OptiBERT", EMNLP). Our law has one run with more than a hundred, of `tiny`."""
SAME = 5e-3
"""Fraction of the lowest loss within which sizes are as good: twice what three seeds of one run differed by."""


@dataclass(frozen=True)
class Option:
    """What a run of one size would be.

    body      weights outside the vocabulary that every token is multiplied by
    seconds   of a step
    passes    over the training split
    fresh     tokens it is worth, repeated passes counted for less
    interval  of the held-out loss, with probability 0.9
    accumulation  micro-batches of a step, all GPUs together, so that it fits the memory of each
    memory    bytes that training takes on the machine, or on each GPU, about
    known     whether the law was fitted on runs of such sizes and tokens
    """

    size: str
    body: int
    parameters: int
    rows: int
    length: int
    accumulation: int
    seconds: float
    steps: int
    tokens: float
    tokens_per_second: float
    passes: float
    fresh: float
    loss: float
    interval: tuple[float, float]
    known: bool
    memory: int
    warnings: tuple[str, ...]


def law_of(language: str) -> tuple[Law, bool]:
    """Return the law of a language and whether it was fitted on that language: of another, that of English."""
    known = language in FITTED
    return fit_law(read_runs([RUNS], language=language if known else "en")), known


def fresh_tokens(tokens: float, per_pass: float) -> float:
    """Return the tokens of fresh text that training on `tokens`, `per_pass` of them in a pass, is worth.

    Equation 5 of Muennighoff et al. (2023).

    >>> round(fresh_tokens(50.0, 100.0)), round(fresh_tokens(400.0, 100.0)), round(fresh_tokens(1e6, 100.0))
    (50, 373, 1640)
    """
    repeats = max(0.0, tokens / per_pass - 1)
    return min(tokens, per_pass) + per_pass * REPEATS_WORTH * (1 - math.exp(-repeats / REPEATS_WORTH))


def batch_for(tokens: float, rows: int) -> int:
    """Return the rows of a step for a run of so many tokens: the recipe's, doubled as often as the power says.

    >>> batch_for(12e6, 32), batch_for(1e9, 32), batch_for(1e11, 32)
    (32, 128, 1024)
    """
    doublings = math.floor(math.log2(max(1.0, tokens / USUAL_TOKENS)) * BATCH_POWER)
    return rows << doublings


def option_of(
    size: str,
    shape: ModelConfig,
    step: StepTime,
    *,
    law: Law,
    seconds: float,
    weights: int,
    rows: int,
    length: int,
    masked: int,
    bytes_each: int,
    device: str,
    gpus: int = 1,
    limit: float = math.inf,
) -> Option:
    """Return what a run of so many seconds would be, at a step of `rows` rows; `weights` are all of the model's.

    The rows are divided among GPUs, and those of each into micro-batches until they fit `limit` bytes or are one row.
    """
    steps = int(seconds * USEFUL / step.seconds)
    tokens, per_pass = steps * step.tokens, step.tokens / rows * step.rows_per_epoch
    body = shape.layers * shape.block_weights
    fresh = fresh_tokens(tokens, per_pass)

    def memory(parts: int) -> int:
        at_once = math.ceil(rows / gpus / parts)
        return step_memory(
            shape, weights=weights, rows=at_once, length=length, masked=masked, bytes_each=bytes_each
        )  # fmt: skip

    parts = 1
    while memory(parts) > limit and 2 * parts * gpus <= rows:
        parts *= 2
    return Option(
        size=size, body=body, parameters=weights, rows=rows, length=length, seconds=step.seconds, steps=steps,
        tokens=tokens, tokens_per_second=step.tokens / step.seconds, passes=tokens / per_pass, fresh=fresh,
        loss=law.loss(body, max(fresh, 1.0)), interval=law.interval(body, max(fresh, 1.0)),
        known=law.known(body, fresh) and law.known(body, tokens),
        memory=memory(parts), accumulation=1 if parts == 1 else parts * gpus,
        warnings=tuple(shape_warnings(shape, device=device)),
    )  # fmt: skip


def best(options: Sequence[Option]) -> Option:
    """Return the smallest option whose expected loss is as good as the lowest.

    A size that would see more tokens a weight than published laws have a use for is left to a larger one.
    """
    useful = [option for option in options if option.fresh <= TOKENS_A_WEIGHT[1] * option.body]
    useful = useful or [max(options, key=lambda option: option.body)]
    lowest = min(option.loss for option in useful)
    return min((one for one in useful if one.loss <= lowest * (1 + SAME)), key=lambda option: option.body)
