"""The public names are functions or classes, whatever was imported before; importing them, or a verb, is cheap."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bertwright.cli.main import SPINS
from bertwright.verbs import VERBS

NOT_FOR_HELP = (
    "numpy", "pyarrow", "torch", "transformers", "tokenizers", "safetensors", "sklearn", "matplotlib", "onnxruntime",
    "xxhash", "fsspec", "zstandard", "charset_normalizer", "asyncio", "multiprocessing", "ctypes",
    "bertwright.corpus", "bertwright.data", "bertwright.hub", "bertwright.inference", "bertwright.model",
    "bertwright.objectives", "bertwright.reports", "bertwright.tasks", "bertwright.tokenizer", "bertwright.types",
)  # fmt: skip
"""Modules that only the work of a verb needs."""
HELP = """
import os, sys
import bertwright
assert not {not_for_help!r} & {{*sys.modules}}
from bertwright.cli.main import main
for words in {calls!r}:
    child = os.fork()
    if not child:
        code = main(words)
        found = sorted({not_for_help!r} & {{*sys.modules}})
        print(words, found, file=sys.stderr)
        os._exit(code or len(found))
    assert os.waitpid(child, 0)[1] == 0, words
"""
ORDERS = {
    "first thing": "",
    "after pre-training": "bertwright.prepare, bertwright.pretrain",
}
NAMES = """
import bertwright
{before}
for turn in range(2):
    for name in bertwright.__all__:
        assert callable(getattr(bertwright, name)), name
from bertwright import evaluate
assert evaluate.__name__ == "evaluate"
from bertwright.inference.pretrained_predictor import fill_mask
"""
FORKS = """
import os, sys
import matplotlib.figure, pyarrow, pydantic, safetensors.torch, sklearn.metrics, tokenizers, torch  # once for all forks
assert not [name for name in sys.modules if name.startswith("bertwright")]
for code in {codes!r}:
    child = os.fork()
    if not child:
        exec(code)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, code
"""


def test_verbs_are_functions_whatever_was_asked_for_before() -> None:
    codes = [NAMES.format(before=before) for before in ORDERS.values()]
    ran = subprocess.run([sys.executable, "-c", FORKS.format(codes=codes)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_help_imports_nothing_that_only_the_work_needs() -> None:
    calls = [["--help"], *([verb, "--help"] for verb in VERBS)]
    code = HELP.format(not_for_help={*NOT_FOR_HELP}, calls=calls)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_public_names_are_listed() -> None:
    import bertwright

    assert set(dir(bertwright)) == {*bertwright.__all__, "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    import bertwright

    with pytest.raises(AttributeError, match="'pretrian'"):
        bertwright.pretrian  # noqa: B018


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_waiting_threads_give_their_cores_away_unless_told_otherwise(given: dict[str, str], found: str | None) -> None:
    code = f"""
import os, sys
import bertwright
from bertwright.cli.main import main
assert "torch" not in sys.modules, "torch has read its environment already"
main(["--help"])
assert os.environ.get("GOMP_SPINCOUNT") == {found!r}
"""
    usual = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    subprocess.run([sys.executable, "-c", code], check=True, env=usual | given)


def test_a_name_that_the_system_cannot_encode_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As under LC_ALL=C without UTF-8 mode; any other such error is a fault of ours, and shown."""
    from bertwright.cli import main as front

    monkeypatch.setattr(front, "run_command", lambda words: "".join(words).encode("utf-8"))
    assert front.main(["show", "out \udcc3"]) == 1
    assert "this system's encoding" in capsys.readouterr().err
    monkeypatch.setattr(front, "run_command", lambda words: "\udcc3".encode("utf-8"))
    with pytest.raises(UnicodeEncodeError):
        front.main(["show", "out"])
