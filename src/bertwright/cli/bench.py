"""The verb `bench` at the terminal."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bertwright.cli.terminal.command import prints
from bertwright.cli.terminal.overrides import parse_overrides
from bertwright.result import Result
from bertwright.verbs.bench import Stage, bench
from bertwright.verbs.calls.measuring.bench_flags import BenchFlags


@prints
def bench_command(
    what: Stage,
    *inputs: Annotated[str, Parameter(allow_leading_hyphen=True)],
    flags: Annotated[BenchFlags | None, Parameter(name="*", negative="")] = None,
) -> Result:
    """Measure how fast this machine does a stage; show a table, and write JSON with machine and versions.

    For example:
        bertwright bench step --data data/en --recipe fast --size mini
        bertwright bench prepare my-texts/ --tokenizer data/en/tokenizer
        bertwright bench pretrain --data data/en --minutes 5 --run runs/fast --peer peer/model
        bertwright bench finetune classify --model runs/en/model --train train.tsv
        bertwright bench predict --model runs/sentiment/model --input reviews.txt --out predict.json

    Nothing else should run on the machine meanwhile. Settings of a recipe can be given as --SECTION.FIELD VALUE.

    Parameters
    ----------
    what
        step: training steps, tokens/s, utilisation, where the time goes. prepare: MB/s, peak memory, disk.
        pretrain: a whole run, evaluated beside a peer's model. finetune: steps of a task, examples/s. predict:
        sentences/s in float32, as `predict` does and exported, side by side; of a pre-trained model, fill-mask.
    inputs
        For prepare: the INPUT files, folders or globs. For finetune: the task.
    """
    count = next((at for at, word in enumerate(inputs) if word.startswith("--")), len(inputs))
    settings = parse_overrides(inputs[count:], verb="bench")
    return bench(what, inputs[:count], settings=settings, **(flags or BenchFlags()))
