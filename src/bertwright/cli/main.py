"""The front door at the terminal: finds the verb, calls it, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from bertwright.errors import BertwrightError, Interrupted, UsageError
from bertwright.log import note

VERBS = {
    "quickstart": "The whole walk on the documentation of your own Python, offline, in under five minutes.",
    "prepare": "Turn raw text into data: vocabulary, token ids, sentence and word boundaries.",
    "doctor": "Examine text or data before training: what will hurt, and the flag that mends it.",
    "pretrain": "Train a BERT on prepared data.",
    "evaluate": "Judge a trained model on held-out data.",
    "finetune": "Train a pre-trained model for a task, and judge it.",
    "predict": "Ask a model: masked words, next sentences, or what it was fine-tuned for.",
    "embed": "Turn texts into vectors, of any layer and pooling.",
    "export": "Write a model in a form that other programs run: ONNX, also in 8-bit integers.",
    "show": "Look inside data, a batch, a run or a model.",
    "verify": "Check that data, a run or a model is whole, and says what it said.",
    "bench": "Measure how fast this machine does a stage.",
}
"""Each verb lives in the module of its name, as VERB_command."""
SPINS = "20000"
"""Turns for which a thread of torch that waits for the others keeps its core before it sleeps (libgomp: 300,000). Where
other work keeps all cores busy, steps of `fast` at mini on two cores ran 3.8 times as fast, and alone no slower."""


def build_app(*, overview: bool) -> App:
    """Return the command-line application; each verb is imported only when it is called.

    The overview gives each verb one line of help; a verb's own --help is the docstring of its command.
    """
    app = App(
        name="bertwright",
        help="From raw text to your own BERT: prepare, pretrain, evaluate, predict.",
        help_format="plaintext",
        result_action="return_value",
    )
    for verb, line in VERBS.items():
        app.command(f"bertwright.cli.{verb}:{verb}_command", name=verb, help=line if overview else None)
    return app


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command; return 0 (done), 1 (it failed), 2 (the words of the call are off), 130 or 143 (told to stop)."""
    words = [word for word in (sys.argv[1:] if tokens is None else tokens) if word != "--debug"]
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read where a verb loads torch
    try:
        run(words)
    except BertwrightError as error:
        code, message = error.exit_code, str(error)
    except KeyboardInterrupt:
        code, message = Interrupted.exit_code, "stopped"
    except (OSError, MemoryError) as error:
        code, message = 1, f"{type(error).__name__}: {error}"
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        code, message = 1, f"a native library gave up ({error}); look for what is unusual in the tokenizer or the text"
    else:
        return 0
    if "--debug" in (sys.argv if tokens is None else tokens):
        traceback.print_exc()
    note(f"bertwright: {message}")
    return code


def run(words: list[str]) -> None:
    """Find the verb and call it; raises UsageError where the words of the call are off."""
    overview = not words or words[0].startswith("-")
    if not overview and words[0] not in VERBS:
        near = difflib.get_close_matches(words[0], VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the verbs are {', '.join(VERBS)}"
        raise UsageError(f"there is no verb {words[0]!r}; {hint}")
    try:
        build_app(overview=overview)(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise UsageError(f"{error} Try: bertwright {words[0]} --help") from error
