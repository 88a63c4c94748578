"""The verb `predict` at the terminal."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Any

from bertwright.cli.terminal.command import command_of
from bertwright.result import ResultStream
from bertwright.verbs.predict import predict

EXAMPLE = """
bertwright predict --model run/model "Return the [MASK] of the list."
bertwright predict --model run/model "It was late." "She went home."    # of ModernBERT: --model run/model-nsp
bertwright predict --model runs/sentiment/model --input reviews.txt --output answers.jsonl
bertwright predict --model runs/sentiment/model --explain "A film to remember."
bertwright predict --model runs/en-de/model --input news.en > news.de   # a translation a line
"""


@wraps(predict)
def _predict(*, output: Any = None, **flags: Any) -> ResultStream | None:
    """Do what `predict` does, but keep no predictions in memory that go to a file or are printed as they come."""
    from bertwright.reports.predictions import shown, write_predictions
    from bertwright.verbs.calls.predict_stream import stream_predictions

    chunks, file = stream_predictions(**flags)
    if output is None:
        return ResultStream(chunks, shown)
    write_predictions(chunks, Path(output), file=file)
    return None


predict_command = command_of(_predict, words="texts", example=EXAMPLE, leading_hyphen=("input",))
