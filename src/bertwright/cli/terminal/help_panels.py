"""Puts defaults into the panels of --help: those of the recipe, by its name, and what else holds without a flag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cyclopts.help.formatters import DefaultFormatter
from cyclopts.help.inline_text import InlineText
from rich.text import Text

from bertwright.flags import Sets, dashed, set_by

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

DEFAULT_RECIPE = "classic-fast"


class DefaultsFormatter(DefaultFormatter):
    """Prints a panel of the help that `words` ask for, with the defaults that hold in that call."""

    def __init__(self, words: Sequence[str]) -> None:
        """Find the defaults."""
        super().__init__()
        self.defaults = shown_defaults(words)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print a panel, each description as one paragraph."""
        super().__call__(console, options, panel.copy(entries=[self._completed(entry) for entry in panel.entries]))

    def _completed(self, entry: HelpEntry) -> HelpEntry:
        name = entry.positive_names[0] if entry.positive_names else ""
        text = getattr(entry.description, "primary_renderable", None)
        words = " ".join(text.plain.split()) if isinstance(text, Text) else ""
        description = InlineText.from_format(words, format="plaintext") if words else entry.description
        default = None if entry.default == "False" else entry.default
        return entry.copy(default=self.defaults.get(name, default), description=description)


def shown_defaults(words: Sequence[str]) -> dict[str, str]:
    """Return by flag what holds without it, in words, for the verb that a call begins with.

    For `pretrain` values of the recipe are followed by its name: the one in the call, or the default one.
    """
    verb = words[0] if words else ""
    if verb == "finetune":
        from bertwright.verbs.calls.finetune_flags import FinetuneCall, FinetuneFlags

        return _written(set_by(FinetuneCall) | set_by(FinetuneFlags))
    if verb == "distill":
        from bertwright.verbs.calls.distilling.distill_flags import DistillCall, DistillFlags

        return _written(set_by(DistillCall) | set_by(DistillFlags))
    if verb == "tune":
        from bertwright.verbs.calls.finetune_flags import FinetuneFlags
        from bertwright.verbs.calls.tuning.tune_flags import SEARCHED, TuneCall

        return _written(set_by(TuneCall) | set_by(FinetuneFlags) | dict.fromkeys(SEARCHED, Sets(default="searched")))
    if verb == "plan":
        from bertwright.verbs.calls.plan_flags import PlanCall

        return _written(set_by(PlanCall))
    if verb == "bench":
        from bertwright.verbs.calls.measuring.bench_flags import BenchFlags

        return _written(set_by(BenchFlags))
    if verb != "pretrain":
        return {}
    from bertwright.configs.names import RECIPES
    from bertwright.nested import read_toml
    from bertwright.verbs.calls.pretrain_flags import PretrainCall, PretrainFlags

    after = [word for flag, word in zip(words, [*words[1:], ""], strict=True) if flag == "--recipe"]
    recipe = after[0] if after and after[0] in RECIPES else DEFAULT_RECIPE
    values = read_toml(RECIPES[recipe])
    shown = {
        dashed(name): _default(one, values, recipe)
        for name, one in (set_by(PretrainCall) | set_by(PretrainFlags)).items()
    }
    return {flag: default for flag, default in shown.items() if default}


def _written(flags: Mapping[str, Sets]) -> dict[str, str]:
    """Return the defaults that stand beside their flags."""
    return {dashed(name): one.default for name, one in flags.items() if one.default}


def _default(flag: Sets, recipe: Mapping[str, Any], name: str) -> str | None:
    """Return the value of a recipe and its name, or what holds in every recipe without the flag."""
    section, _, field = flag.setting.rpartition(".")
    settings = recipe.get(section, {}) if section else recipe
    if section == "schedule" and field in ("rows", "length"):
        values = " and ".join(str(value) for value in dict.fromkeys(phase[field] for phase in settings["phases"]))
        return f"{values} in {name}"
    if field not in settings:
        return flag.default
    final = "" if f"final_{field}" not in settings else f" to {settings[f'final_{field}']}"
    return f"{settings[field]}{final} in {name}"
