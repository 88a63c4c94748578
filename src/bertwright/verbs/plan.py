"""Turns hours and data into a plan: which size, how many steps, what loss to expect, and what it takes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bertwright.corpus.vocabulary import vocabulary_size
from bertwright.errors import UsageError
from bertwright.files import human_bytes
from bertwright.flags import with_flags
from bertwright.log import Facts, Lines, ResultTable
from bertwright.model.random_state import kept_random_state
from bertwright.planning.gpus import gpu_named
from bertwright.planning.options import TOKENS_A_WEIGHT, Option, best
from bertwright.result import Result
from bertwright.verbs.calls.plan_file import write_plan
from bertwright.verbs.calls.plan_flags import RECIPE, Budget, PlanCall, budget_of
from bertwright.verbs.calls.plan_options import Planned, plan_options
from bertwright.verbs.prepare import prepare

VOCAB_SIZE = 8192
"""Vocabulary of a plan without data: that of the runs behind the law."""
BYTES_A_TOKEN = 4.3
"""Of English text and that vocabulary: 111 MB are 26 million tokens."""
FEW_PASSES = 4
"""Passes over the data up to which each is worth nearly as much as fresh text (Muennighoff et al., 2023)."""


@with_flags("plan", PlanCall)
@kept_random_state()
def plan(
    *,
    hours: float | None = None,
    minutes: float | None = None,
    data: Path | str | None = None,
    recipe: Path | str = RECIPE,
    size: str | None = None,
    gpu: str | None = None,
    gpus: int = 1,
    price: float | None = None,
    out: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Say which model a budget of time is best spent on, and what to expect; return that as figures.

    Measures steps of each size on this machine, or takes a GPU's figures from a table, and reads the loss to expect off
    a law that was fitted on our own runs. `settings` are laid over the recipe, nested as in its TOML.

    >>> plan(hours=3, data="data")["size"]  # takes 30 seconds  # doctest: +SKIP
    'mini'

    Raises
    ------
    UsageError
        For an invalid call, or a budget too short for a step; DataError where `data` cannot be read, and ConfigError
        for settings that fit no run, all before anything is written.
    """
    budget = budget_of(hours, minutes, gpu=gpu, gpus=gpus, price=price)
    card = None if gpu is None else gpu_named(gpu)
    file = None if out is None else Path(out)
    if file is not None and file.suffix != ".toml":
        raise UsageError(f"--out {file}: a plan is a TOML file; give a name that ends in .toml")
    with ExitStack() as stack:
        folder = None if data is None else Path(data)
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bertwright-plan-"))) / "data"
            prepare(["builtin:python-docs"], folder, vocab_size=VOCAB_SIZE, language="en", valid_fraction=0.03)
        planned = plan_options(
            folder, budget, card, recipe=str(recipe), size=size, settings=settings or {}, endless=data is None
        )
    chosen = best(planned.options)
    if file is not None:
        given = None if data is None else Path(data)
        write_plan(
            file, chosen, budget, recipe=str(recipe), data=given, phases=planned.phases[chosen.size],
            settings=settings or {},
        )  # fmt: skip
    figures = {
        **asdict(chosen), "minutes": budget.minutes, "machine": budget.machine, "language": planned.language,
        "vocab_size": planned.vocab_size, "disk": planned.disk[chosen.size], "cost": budget.cost,
        "options": [asdict(option) for option in planned.options],
    }  # fmt: skip
    return Result(figures, *shown(chosen, planned, budget, data=data, file=file))


def shown(
    chosen: Option, planned: Planned, budget: Budget, *, data: Path | str | None, file: Path | None
) -> Sequence[ResultTable | Facts | Lines]:
    """Return the table of all sizes, the facts of the best one, and what to know about them."""
    header = ["size", "tokens/s", "steps", "tokens", "passes", "held-out loss", "memory"]
    rows = [
        [
            f"{option.size}{' *' * (option is chosen)}", f"{option.tokens_per_second:,.0f}", f"{option.steps:,}",
            human_tokens(option.tokens), "-" if data is None else f"{option.passes:,.2f}",
            expected(option), human_bytes(option.memory),
        ]
        for option in planned.options
    ]  # fmt: skip
    facts = {
        "model": f"{chosen.size}: {chosen.parameters:,} parameters, vocabulary of {planned.vocab_size:,}",
        "batch": f"{chosen.rows} rows of {chosen.length} tokens"
        + (f", in {chosen.accumulation} micro-batches" if chosen.accumulation > 1 else ""),
        "run": f"{chosen.steps:,} steps of {chosen.seconds:.3g} s, {human_tokens(chosen.tokens)} tokens",
        "tokens a weight": f"{chosen.tokens / chosen.body:,.1f} (of the {chosen.body:,} outside the vocabulary; "
        f"published for masked models: {TOKENS_A_WEIGHT[0]:,} to {TOKENS_A_WEIGHT[1]:,})",
        "held-out loss": f"{expected(chosen)} nats a token, 9 times in 10"
        if chosen.known
        else f"about {chosen.loss:.2f} nats a token: a guess",
        "memory": f"about {human_bytes(chosen.memory)}{' a GPU' if budget.gpu else ''}",
        "disk": f"about {human_bytes(planned.disk[chosen.size])}",
        **({} if budget.cost is None else {"cost": f"{budget.cost:,.2f}"}),
    }
    table = ResultTable(f"{budget.minutes:g} minutes on {budget.machine}", header, rows)
    return [table, Facts(f"the plan: {chosen.size}", facts), Lines(remarks(chosen, planned, budget, data, file))]


def human_tokens(count: float) -> str:
    """Return a number of tokens in millions or billions.

    >>> human_tokens(5.4e6), human_tokens(1.35e11)
    ('5.4 million', '135.0 billion')
    """
    return f"{count / 1e6:,.1f} million" if count < 1e9 else f"{count / 1e9:,.1f} billion"


def expected(option: Option) -> str:
    """Return the loss to expect and its interval, or that it is a guess."""
    low, high = option.interval
    return f"{option.loss:.2f} ({low:.2f} to {high:.2f})" if option.known else f"{option.loss:.2f} ?"


def remarks(chosen: Option, planned: Planned, budget: Budget, data: Path | str | None, file: Path | None) -> list[str]:
    """Return what to know about a plan, a sentence a line, and the command that runs it."""
    lines = [f"warning: {warning}" for warning in chosen.warnings]
    if not all(option.known for option in planned.options):
        lines.append(
            f"?  a guess: the runs behind the law have {' to '.join(map(human_tokens, planned.known_tokens))} tokens, "
            f"and {planned.known_weights[0]:,.0f} to {planned.known_weights[1]:,.0f} weights outside the vocabulary"
        )
    if not planned.same_language:
        lines.append(f"no runs in {planned.language} stand behind the law; the loss is that of English")
    if planned.vocab_size != VOCAB_SIZE:
        lines.append(
            f"the law's runs had vocabularies of {VOCAB_SIZE:,}; nats a token differ with {planned.vocab_size:,}"
        )
    if planned.recipe != RECIPE:
        lines.append(f"the law's runs were of recipe {RECIPE}; what {planned.recipe} reaches differs")
    if data is None:
        text = chosen.tokens / FEW_PASSES
        lines.append(f"text: {human_tokens(text)} tokens or more, so that the run passes over it 4 times at most")
        suited = vocabulary_size(None, round(text * BYTES_A_TOKEN))
        if suited != planned.vocab_size:
            lines.append(f"vocabulary: prepare makes one of {suited:,} from so much text; nats a token differ with it")
    elif chosen.passes > FEW_PASSES:
        lines.append(
            f"{chosen.passes:,.1f} passes over the data are worth {human_tokens(chosen.fresh)} tokens of fresh text"
            ": more text would help more than more time"
        )
    if planned.source:
        lines.append(planned.source)
    run = f"--plan {file}" if file else f"--size {chosen.size} --minutes {budget.minutes:g}"
    folder = "" if file and data else f" --data {data or 'DATA'}"
    processes = f"torchrun --nproc-per-node {budget.gpus} -m " if budget.gpus > 1 else ""
    return [*lines, f"next  {processes}bertwright pretrain{folder} {run} --out RUN"]
