"""The front door at the terminal: finds the verb, calls it, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, MissingArgumentError, UnknownOptionError

from bertwright.cli.terminal.overrides import UnknownFlagError, answer
from bertwright.errors import BertwrightError, UsageError, is_out_of_memory, is_panic
from bertwright.flags import from_earlier
from bertwright.log import note
from bertwright.stopping import interrupted, signals_raise
from bertwright.system import name_compiled_code_folder
from bertwright.verbs import VERBS

if TYPE_CHECKING:
    from cyclopts.help.protocols import HelpFormatter

READER_GONE = 141
"""Exit code of a program that SIGPIPE ended, as shells report it."""
SPINS = "20000"
"""Turns for which a thread of torch that waits for the others keeps its core before it sleeps (libgomp: 300,000). Where
other work keeps all cores busy, steps of `fast` at mini on two cores ran 3.8 times as fast, and alone no slower."""


def build_app(*, overview: bool, words: Sequence[str] = ()) -> App:
    """Return the command-line application; each verb is imported only when it is called.

    The overview gives each verb one line of help; a verb's own --help is the docstring of its command, with the
    defaults that hold in the call of these `words`.
    """
    app = App(
        name="bertwright",
        help="From raw text to your own BERT: prepare, pretrain, evaluate, predict.",
        help_format="plaintext",
        help_formatter=_formatter(words),
        result_action="return_value",
    )
    for verb, line in VERBS.items():
        app.command(f"bertwright.cli.{verb}:{verb}_command", name=verb, help=line if overview else None)
    return app


def _formatter(words: Sequence[str]) -> HelpFormatter | None:
    """Return what prints the help of a verb, where `words` ask for it."""
    if not {"--help", "-h"} & set(words) or words[0].startswith("-"):
        return None
    from bertwright.cli.terminal.help_panels import DefaultsFormatter

    return DefaultsFormatter(words)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command; return 0 (done), 1 (it failed), 2 (invalid command line), 130 or 143 (stopped by a signal).

    141 where the reader of stdout has gone, such as `head`: as the system would end it.
    """
    words = [word for word in (sys.argv[1:] if tokens is None else tokens) if word != "--debug"]
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read where a verb loads torch
    name_compiled_code_folder()
    try:
        with _stop_signals():
            run_command(words)
            if sys.stdout is not None:
                sys.stdout.flush()
    except BertwrightError as error:
        code, message = error.exit_code, "" if error.quiet else str(error)
    except KeyboardInterrupt as stop:
        code, message = interrupted(stop, "").exit_code, "stopped"
    except BrokenPipeError:
        _close_stdout()
        return READER_GONE
    except UnicodeEncodeError as error:
        if not any("\ud800" <= letter <= "\udfff" for word in words for letter in word):
            raise
        code, message = 1, f"a name in the call is not in this system's encoding ({error.reason}); set PYTHONUTF8=1"
    except (OSError, MemoryError) as error:
        code, message = 1, f"{type(error).__name__}: {error}"
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        code, message = 1, "there is not enough memory for this; give shorter rows, fewer at a time, or a smaller model"
    except BaseException as error:
        if not is_panic(error):
            raise
        code, message = 1, f"a native library gave up ({error}); look for what is unusual in the tokenizer or the text"
    else:
        return 0
    if "--debug" in (sys.argv if tokens is None else tokens):
        traceback.print_exc()
    if message:
        note(f"bertwright: {message}")
    return code


def _stop_signals() -> AbstractContextManager[None]:
    """Return what turns SIGTERM and SIGHUP into an orderly end; processes of torchrun are ended by torchrun."""
    return nullcontext() if "LOCAL_RANK" in os.environ else signals_raise()


def _close_stdout() -> None:
    """Lead stdout nowhere, so that Python does not complain at its end about what is still in its buffer."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def run_command(words: list[str]) -> None:
    """Find the verb and call it; raises UsageError for an invalid command line."""
    overview = not words or words[0].startswith("-")
    if not overview and words[0] not in VERBS:
        near = difflib.get_close_matches(words[0], VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the verbs are {', '.join(VERBS)}"
        raise UsageError(f"there is no verb {words[0]!r}; {hint}")
    app = build_app(overview=overview, words=words)
    words = from_earlier(words[0], words) if words else words
    try:
        app(words, exit_on_error=False, print_error=False)
    except (UnknownFlagError, UnknownOptionError) as error:
        name = error.name if isinstance(error, UnknownFlagError) else error.token.keyword or error.token.value
        known = _flags_of(app, words[0])
        raise UsageError(answer(words[0], name, known, settings=isinstance(error, UnknownFlagError))) from error
    except MissingArgumentError as error:
        raise UsageError(f"{_missing(error, words)}; see bertwright {words[0]} --help") from error
    except CycloptsError as error:
        raise UsageError(f"{error} Try: bertwright {words[0]} --help") from error


def _flags_of(app: App, verb: str) -> list[str]:
    """Return the flags of a verb, as they are written."""
    arguments = app[verb].assemble_argument_collection()
    return [name for argument in arguments for name in argument.names if name.startswith("--")]


def _missing(error: MissingArgumentError, words: Sequence[str]) -> str:
    """Say what a call lacks: a flag, the value of one, or a word that stands by itself."""
    assert error.argument is not None
    name = error.argument.name
    if any(word == name or word.startswith(f"{name}=") for word in words):
        return f"{name} needs a value"
    if error.argument.field_info.is_keyword_only:
        return f"{words[0]} needs {name}, which is missing"
    return f"{words[0]} needs {name.lstrip('-').upper()}, which is missing"
