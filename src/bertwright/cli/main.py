"""The front door at the terminal: finds the verb, calls it, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from bertwright.errors import BertwrightError
from bertwright.log import note, talk

VERBS = {
    "quickstart": "bertwright.cli.quickstart:quickstart_command",
    "prepare": "bertwright.cli.prepare:prepare_command",
    "pretrain": "bertwright.cli.pretrain:pretrain_command",
    "evaluate": "bertwright.cli.evaluate:evaluate_command",
    "predict": "bertwright.cli.predict:predict_command",
    "show": "bertwright.cli.show:show_command",
}


def build_app() -> App:
    """Return the command-line application; each verb is imported only when it is called."""
    app = App(
        name="bertwright",
        help="From raw text to your own BERT: prepare, pretrain, evaluate, predict.",
        help_format="plaintext",
        error_console=talk(),
        result_action="return_value",
    )
    for verb, target in VERBS.items():
        app.command(target, name=verb)
    return app


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command; return 0 (done), 1 (it failed), 2 (the words of the call are off) or 130 (interrupted)."""
    words = list(sys.argv[1:] if tokens is None else tokens)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        build_app()(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        note(f"bertwright: {error} Try: bertwright {words[0] if words else ''} --help")
        return 2
    except BertwrightError as error:
        if debug:
            traceback.print_exc()
        note(f"bertwright: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        note("bertwright: stopped")
        return 130
    except (OSError, MemoryError) as error:
        if debug:
            traceback.print_exc()
        note(f"bertwright: {error or type(error).__name__}")
        return 1
    return 0
