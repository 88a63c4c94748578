"""The verb `pretrain`: turns flags into settings and calls the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from bertwright.cli.overrides import parse_overrides
from bertwright.config import merge
from bertwright.errors import UsageError


def pretrain_command(
    *overrides: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    data: list[Path],
    out: Path,
    mixture: str | None = None,
    recipe: str = "classic-fast",
    size: str | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    tokens: float | None = None,
    epochs: float | None = None,
    seed: int | None = None,
    resume: bool = False,
) -> None:
    """Pre-train a BERT on prepared data.

    Example:
        bertwright pretrain --data data/en --out runs/en --size mini --minutes 20

    In several processes, on one machine or many (docs/distributed.md):
        torchrun --nproc-per-node 2 -m bertwright pretrain --data data/en --out runs/en --minutes 600

    Every setting of the recipe can be given as --SECTION.FIELD VALUE, for instance --optimizer.learning-rate 5e-4,
    --objective.whole-word true or --engine.precision fp32; a wrong name is answered with the nearest right one.

    Parameters
    ----------
    data
        Folder that `bertwright prepare` made. Given several times, rows of all are mixed; they must have been made with
        the same tokenizer (prepare --tokenizer).
    out
        Folder of the run: settings, metrics, checkpoints, report.html, and the model in OUT/model; of ModernBERT with
        --objective.next-sentence true also that head, in OUT/model-nsp.
    mixture
        Share of the rows from each --data, in their order, such as 0.7,0.3; by their tokens where not given.
    recipe
        classic-fast (2018's model and objectives, started from the corpus), classic (as published), classic-muon, fast
        (ModernBERT, masked words alone), or a TOML file of your own.
    size
        tiny 2/128, mini 4/256, small 4/512, medium 8/512, base 12/768, large 24/1024 (layers/width); for the
        architecture of fast, base is 22/768 and large 28/1024.
    minutes
        Train for this many minutes; the learning rate is annealed to zero at their end.
    steps
        Train for this many optimizer steps.
    tokens
        Train on this many tokens.
    epochs
        Train for this many passes over the data.
    seed
        Seed of everything random.
    resume
        Go on with the run in OUT from its last checkpoint.
    """
    from bertwright.verbs.pretrain import pretrain

    dials: dict[str, Any] = {"size": size, "seed": seed}
    settings = {name: value for name, value in dials.items() if value is not None}
    durations = {"minutes": minutes, "steps": steps, "tokens": tokens, "epochs": epochs}
    given = {name: value for name, value in durations.items() if value is not None}
    if len(given) > 1:
        raise UsageError(f"give one of --minutes, --steps, --tokens and --epochs, not {len(given)} of them")
    if given:
        settings["schedule"] = given
    pretrain(
        data, out, mixture=_shares(mixture), recipe=recipe, resume=resume,
        settings=merge(settings, parse_overrides(overrides, verb="pretrain")),
    )  # fmt: skip


def _shares(mixture: str | None) -> list[float] | None:
    """Return the numbers of a list such as 0.7,0.3."""
    try:
        return None if mixture is None else [float(share) for share in mixture.split(",")]
    except ValueError as error:
        raise UsageError(f"--mixture {mixture} is no list of numbers; give one such as 0.7,0.3") from error
