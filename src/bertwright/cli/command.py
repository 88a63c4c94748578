"""Turns what a verb returns into what its command prints: tables for people, or with --json one JSON document."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

from cyclopts import Parameter

from bertwright.errors import BertwrightError
from bertwright.result import Shown, print_result

JSON = inspect.Parameter(
    "json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, Parameter(negative="", help="Print the figures as JSON on stdout, and nothing else.")],
)


def prints(verb: Callable[..., Shown | None]) -> Callable[..., None]:
    """Return the command of a verb that prints what `verb` returns, with the flag --json.

    Where it fails, and its error knows what was found before, that is printed too.
    """
    signature = inspect.signature(verb)

    def command(*words: Any, json: bool = False, **flags: Any) -> None:
        try:
            result = verb(*words, **flags)
        except BertwrightError as error:
            print_result(error.result, as_json=json)
            raise
        print_result(result, as_json=json)

    parameters = [*signature.parameters.values()]
    last = len(parameters) - (bool(parameters) and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD)
    parameters.insert(last, JSON)
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = get_type_hints(verb, include_extras=True) | {"json": JSON.annotation}
    command.__doc__, command.__name__ = verb.__doc__, verb.__name__
    return command
