"""Turns the Python function of a verb into its command: the same names, defaults and help, and --json beside them."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import NoneType, SimpleNamespace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

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
    """Return the command that prints what `verb` returns, with the flag --json beside those of its signature.

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

    command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), JSON])  # type: ignore[attr-defined]
    command.__annotations__ = get_type_hints(verb, include_extras=True) | {"json": JSON.annotation}
    command.__doc__ = _flowing(inspect.cleandoc(verb.__doc__ or ""))
    return command


def _flowing(docstring: str) -> str:
    """Return a docstring whose paragraphs, up to the parameters, are a line each, so that any terminal can break them.

    Indented lines, such as commands, stay as they are.
    """
    head, section, tail = docstring.partition("\n\nParameters\n")
    return re.sub(r"(?<!\n)\n(?=\S)", " ", head) + section + tail


def command_of(
    verb: Callable[..., Shown | None],
    *,
    words: str = "",
    example: str,
    leading_hyphen: Collection[str] = (),
    python_only: Collection[str] = (),
    paths: Collection[str] = (),
) -> Callable[..., None]:
    """Return the command of a Python function: its parameters are flags, with their defaults and their help.

    words           the parameters that are given without a flag, by their names and blanks between; as often as one
                    likes where it is one that takes several
    example         commands that the help shows, a line each
    leading_hyphen  parameters whose values may begin with a hyphen, such as - for stdin
    python_only     parameters that the command line does not have
    paths           parameters that are a path at the terminal, and needed there, whatever else Python takes
    """
    hints, names = _hints_of_parameters(verb), words.split()
    parameters: list[inspect.Parameter] = []
    for one in inspect.signature(verb).parameters.values():
        if one.name in python_only:
            continue
        hint = hints[one.name]
        if one.name in paths:
            one, hint = one.replace(default=inspect.Parameter.empty), Path
        if one.name in names:
            parameters.insert(names.index(one.name), _word(one, hint, first=one.name == names[0]))
        else:
            parameters.append(_flag(one, hint, hyphen=one.name in leading_hyphen))

    def call(*given: Any, **flags: Any) -> Shown | None:
        if words and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
            flags[words] = list(given)
        else:
            flags |= dict(zip(names, given, strict=False))
        return verb(**flags)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    head, section, help_of_flags = inspect.cleandoc(verb.__doc__ or "").partition("\n\nParameters\n")
    commands = textwrap.indent(inspect.cleandoc(example), "    ")
    call.__doc__ = f"{head}\n\nFor example:\n{commands}{section}{help_of_flags}"
    return prints(call)


def _hints_of_parameters(verb: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a function's parameters; what it returns may be of a type that only its work imports."""
    annotations = {name: hint for name, hint in inspect.get_annotations(verb).items() if name != "return"}
    return get_type_hints(
        SimpleNamespace(__annotations__=annotations), globalns=inspect.unwrap(verb).__globals__, include_extras=True
    )


def _word(parameter: inspect.Parameter, hint: Any, *, first: bool) -> inspect.Parameter:
    """Return what stands without a flag: one word, or any number of them; the `first` must be given."""
    if _takes_several(hint):
        return parameter.replace(kind=inspect.Parameter.VAR_POSITIONAL, annotation=str, default=inspect.Parameter.empty)
    default = inspect.Parameter.empty if first else parameter.default
    return parameter.replace(kind=inspect.Parameter.POSITIONAL_ONLY, annotation=_at_the_terminal(hint), default=default)


def _flag(parameter: inspect.Parameter, hint: Any, *, hyphen: bool) -> inspect.Parameter:
    """Return a parameter as a flag; one that takes several values takes all up to the next flag."""
    annotation, default = _at_the_terminal(hint), parameter.default
    if _takes_several(hint):
        annotation = Annotated[list[str] | None, Parameter(consume_multiple=True)]
        default = default if default is inspect.Parameter.empty else None
    elif default is False:
        annotation = Annotated[annotation, Parameter(negative="")]
    elif hyphen:
        annotation = Annotated[annotation, Parameter(allow_leading_hyphen=True)]
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _takes_several(hint: Any) -> bool:
    return any(get_origin(one) is Sequence for one in (hint, *get_args(hint)))


def _at_the_terminal(hint: Any) -> Any:
    """Return the type that a word is turned into: a path where Python takes a path or a str."""
    kinds = get_args(hint)
    if Path not in kinds or str not in kinds:
        return hint
    return Path | None if NoneType in kinds else Path
