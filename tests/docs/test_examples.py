"""Every example of `pretrain` in the docs is a valid command line that says how long to train, or resumes a run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bertwright.cli.main import build_app
from bertwright.cli.pretrain import pretrain_command
from bertwright.train.setup.pretrain_config import resolve

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "README.zh.md"]
BUDGETS = ("minutes", "steps", "tokens", "epochs", "resume", "plan")


def blocks_of(page: Path) -> list[str]:
    """Return the code blocks of a page, whatever their language."""
    return re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def examples_in(text: str) -> list[list[str]]:
    """Return the words behind `bertwright pretrain` of each example: in shell, in a YAML list or in Python strings."""
    text = re.sub(r"\\\n\s*", " ", text)  # a shell's line that goes on
    text = re.sub(r'"\n\s*f?"', "", text)  # Python's strings side by side
    found = []
    for match in re.finditer(r'bertwright"?,? pretrain\b(?!")(.*(?:\n(?=\s+"--).*)*)', text):
        line = match.group(1).split("#")[0].split('"\n')[0].rstrip(' "\n&)')
        listed = line.lstrip().startswith(",")
        words = re.findall(r'"([^"]+)"?', line) if listed else shlex.split(line)
        found.append(words)
    return found


EXAMPLES = [
    (f"{page.name}: {' '.join(words)}", words)
    for page in PAGES
    for block in blocks_of(page)
    for words in examples_in(block)
]
EXAMPLES += [(f"--help: {' '.join(words)}", words) for words in examples_in(pretrain_command.__doc__ or "")]


def given(words: list[str]) -> dict[str, object]:
    """Return the flags of a call of `pretrain`; raises where it is no valid one."""
    _, bound, *_ = build_app(overview=False).parse_args(["pretrain", *words], exit_on_error=False, print_error=False)
    arguments = dict(bound.arguments)
    return {**arguments.get("call", {}), **(arguments.get("flags") or {})}


@pytest.mark.parametrize("words", [words for _, words in EXAMPLES], ids=[name for name, _ in EXAMPLES])
def test_an_example_says_how_long_it_trains(words: list[str]) -> None:
    arguments = given(words)
    assert any(arguments.get(budget) for budget in BUDGETS), words
    recipe = str(arguments.get("recipe", "classic-fast"))
    if not recipe.endswith(".toml"):
        resolve(recipe, {"size": arguments.get("size", "mini")})


def test_examples_of_every_kind_are_found() -> None:
    assert len(EXAMPLES) >= 11
    with_size = [words for _, words in EXAMPLES if "base" in " ".join(words)]
    assert len(with_size) == 5, "by hand, Slurm, Kubernetes, Ray, a GPU with too little memory"
    in_yaml = 'x: ["-m", "bertwright", pretrain,\n    "--data=d",\n    "--out=r"]\n'
    assert examples_in(in_yaml) == [["--data=d", "--out=r"]]
    assert examples_in('f"-m bertwright pretrain --data d "\n    "--out r --steps 6"\n)')[0][-1] == "6"
    assert examples_in("torchrun -m bertwright pretrain --data d \\\n  --out r &\n") == [["--data", "d", "--out", "r"]]
