"""The verb `pretrain` at the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bertwright.cli.command import prints
from bertwright.cli.overrides import parse_overrides
from bertwright.errors import UsageError
from bertwright.result import Result
from bertwright.verbs.calls.pretrain_flags import PretrainFlags


@prints
def pretrain_command(
    *overrides: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    data: list[Path],
    out: Path,
    mixture: str | None = None,
    recipe: str = "classic-fast",
    resume: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    flags: Annotated[PretrainFlags | None, Parameter(name="*", negative="")] = None,
) -> Result:
    """Pre-train a BERT on prepared data.

    For example:
        bertwright pretrain --data data/en --out runs/en --size mini --minutes 20

    In several processes, on one machine or many (docs/distributed.md):
        torchrun --nproc-per-node 2 -m bertwright pretrain --data data/en --out runs/en --minutes 600

    Every setting of the recipe can be given as --SECTION.FIELD VALUE, for instance --objective.whole-word true or
    --schedule.decay cosine; `bertwright show classic-fast` lists them, and a wrong name is answered with the nearest
    right one.

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
        (ModernBERT, masked words alone), or a TOML file of your own; see `bertwright show recipes`.
    resume
        Go on with the run in OUT from its last checkpoint.
    overwrite
        Replace the run in OUT; it is deleted when the new one is about to begin.
    dry_run
        Write nothing: print the settings, the size of the model, how much disk the run takes, and what it would do.
    """
    settings = parse_overrides(overrides, verb="pretrain")
    from bertwright.verbs.pretrain import pretrain

    return pretrain(
        data, out, mixture=_shares(mixture), recipe=recipe, resume=resume, overwrite=overwrite,
        dry_run=dry_run, settings=settings, **(flags or PretrainFlags()),
    )  # fmt: skip


def _shares(mixture: str | None) -> list[float] | None:
    """Return the numbers of a list such as 0.7,0.3."""
    try:
        return None if mixture is None else [float(share) for share in mixture.split(",")]
    except ValueError as error:
        raise UsageError(f"--mixture {mixture} is no list of numbers; give one such as 0.7,0.3") from error
