"""The commands of both READMEs run as they are there, on a small corpus and for a few steps."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bertwright.cli.main import main
from bertwright.train.loss_guard import GuardConfig
from bertwright.train.setup.pretrain_config import PretrainConfig, resolve
from bertwright.train.task_setup.finetune_config import FinetuneConfig
from bertwright.verbs import VERBS

ROOT = Path(__file__).parents[2]
SHORTER = {"--minutes 20": "--steps 4 --engine.compile false", "--size mini": "--size tiny", "8192": "512"}


def commands(readme: str) -> list[str]:
    """Return the bertwright commands of a README's code blocks, without their comments."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / readme).read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("bertwright ")]
    return [line.split("#")[0].strip() for line in lines]


def verb_and_flags(command: str) -> tuple[str, list[str]]:
    """Return the verb of a command and its flags, in order."""
    words = shlex.split(command)
    return words[1], [word for word in words if word.startswith("--")]


def test_both_readmes_show_the_same_verbs_and_flags() -> None:
    """Texts and numbers are those of each language."""
    english, chinese = ([verb_and_flags(line) for line in commands(name)] for name in ("README.md", "README.zh.md"))
    assert english == chinese


def test_the_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-texts").mkdir()
    for index in range(120):
        sentences = [f"Town {index} has {line} rivers. It rains there in month {line}." for line in range(12)]
        (tmp_path / "my-texts" / f"{index}.txt").write_text("\n".join(sentences), encoding="utf-8")
    ran = commands("README.md")
    assert {shlex.split(line)[1] for line in ran} == {"prepare", "pretrain", "evaluate", "predict", "show"}
    for line in [*ran, *(line for line in commands("README.zh.md") if line not in ran)]:
        for long, short in SHORTER.items():
            line = line.replace(long, short)
        assert main(shlex.split(line)[1:]) == 0, line


def test_the_python_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-texts").mkdir()
    for index in range(120):
        text = " ".join(f"Town {index} has {line} rivers. It rains there in month {line}." for line in range(12))
        (tmp_path / "my-texts" / f"{index}.txt").write_text(text, encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    short = 'size="tiny", steps=4, settings={"engine": {"compile": False}}'
    exec(block.replace("8192", "512").replace('size="mini", minutes=20', short), {})
    assert (tmp_path / "run" / "model" / "config.json").is_file()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    output = capsys.readouterr().out
    assert "example" in output.lower()
    assert f"bertwright {verb}" in output


def test_the_recipe_of_the_docs_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs/recipes.md").read_text(encoding="utf-8"), re.M | re.S)
    (tmp_path / "own.toml").write_text(block, encoding="utf-8")
    config = resolve(str(tmp_path / "own.toml"), {})
    assert config.schedule.phases[1].rate == 1.4


def test_settings_named_in_the_docs_exist() -> None:
    """Every section is there, and every name written behind it is a setting of it."""
    text = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    for section in ("model", "data", "objective", "optimizer", "schedule", "average", "engine"):
        fields = PretrainConfig.model_fields[section].annotation
        assert fields is not None
        named = re.findall(rf"`{section}\.(\w+)", text)
        assert named, section
        assert set(named) <= set(fields.model_fields), section


def test_flags_and_settings_named_in_the_docs_of_tasks_exist(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")
    for verb in ("finetune", "evaluate", "predict", "export"):
        assert main([verb, "--help"]) == 0
    output = capsys.readouterr().out
    for flag in re.findall(r"`(--[\w.-]+)`", text):
        section, dot, name = flag[2:].replace("-", "_").partition(".")
        if dot:
            fields = FinetuneConfig.model_fields[section].annotation
            assert fields is not None
            assert name in fields.model_fields, flag
        else:
            assert flag in output, flag


def test_settings_named_in_the_docs_of_runs_have_the_defaults_they_say() -> None:
    text = (ROOT / "docs/runs.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(engine|guard)\.(\w+)` \| (\S+) \|", text, re.M)
    assert {section for section, _, _ in named} == {"engine", "guard"}
    config = resolve("classic", {})
    for section, name, given in named:
        default = getattr(getattr(config, section), name)
        assert (default in (None, False) and given in ("none", "false")) or float(given) == default, name
    assert {name for section, name, _ in named if section == "guard"} == set(GuardConfig.model_fields)
