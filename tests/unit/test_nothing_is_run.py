"""Nothing under src runs what it reads, unpickles more than weights, or calls a shell: each syntax tree is read."""

from __future__ import annotations

import ast

import pytest

MODULES = {
    "pickle", "_pickle", "cPickle", "pickletools", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml",
    "ruamel", "jsonpickle", "code", "codeop", "runpy", "pty", "torch.package", "torch.hub", "torch.serialization",
    "torch.distributed.checkpoint.filesystem", "torch.utils.cpp_extension",
}  # fmt: skip
"""What only unpickles or runs what it is given."""
CALLS = {
    "torch.load", "torch.jit.load", "torch.export.load", "torch.classes.load_library", "torch.ops.load_library",
    "torch.distributed.checkpoint.FileSystemReader", "torch.distributed.checkpoint.load",
    "torch.distributed.all_gather_object", "torch.distributed.broadcast_object_list",
    "torch.distributed.gather_object", "torch.distributed.scatter_object_list",
    "torch.distributed.recv_object_list", "numpy.load", "pandas.read_pickle", "pyarrow.deserialize",
    "pyarrow.PyExtensionType", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "importlib.import_module", "ctypes.CDLL", "ctypes.cdll",
}  # fmt: skip
"""What may do so, by its full name."""
BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint"}
WORDS = {"shell", "allow_pickle", "trust_remote_code", "weights_only"}
"""Arguments that ask for it; weights_only belongs to torch.load, which one file may call, with it set."""
KNOWN = {
    ("__init__.py", "importlib.import_module"),  # one of the package's own modules, from a table in that file
    ("hub/onnx/onnx_folder.py", "importlib.import_module"),  # "onnx" or "onnxruntime"
    ("hub/pickled_weights.py", "torch.load"),  # weights alone
    ("hub/pickled_weights.py", "weights_only"),
    ("system.py", "ctypes.CDLL"),  # the C library of this process
}


def forbidden(tree: ast.Module) -> set[str]:
    """Return what a file imports, names or passes that is forbidden, under its full name whatever it calls it."""
    full = dict(_imported(tree))
    used = set(full.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            first, _, rest = ast.unparse(node).partition(".")
            if first in full:
                used.add(f"{full[first]}.{rest}".rstrip("."))
            elif not rest and first in BUILTINS:
                used.add(first)
        elif isinstance(node, ast.Call):
            used |= {word.arg for word in node.keywords if word.arg in WORDS}
    modules = {name for name in used if any(name == one or name.startswith(f"{one}.") for one in MODULES)}
    return modules | (used & (CALLS | BUILTINS | WORDS))


def _imported(tree: ast.AST) -> list[tuple[str, str]]:
    """Return (what a file calls it, its full name) of everything imported."""
    names: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(one.asname, one.name) if one.asname else (one.name.split(".")[0],) * 2 for one in node.names]
            names += [(f"import {one.name}", one.name) for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [(one.asname or one.name, f"{node.module}.{one.name}") for one in node.names]
    return names


def test_no_file_runs_what_it_reads_but_where_it_is_known(trees: dict[str, ast.Module]) -> None:
    assert {(path, name) for path, tree in trees.items() for name in forbidden(tree)} == KNOWN


def test_the_one_reader_of_pickles_reads_weights_alone(trees: dict[str, ast.Module]) -> None:
    calls = [
        node
        for node in ast.walk(trees["hub/pickled_weights.py"])
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    (arguments,) = [{word.arg: ast.unparse(word.value) for word in node.keywords} for node in calls]
    assert arguments["weights_only"] == "True"


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import torch as t; t.load(x)", "from torch import load as get",
        "eval(x)", "map(exec, x)", "import numpy as np; np.load(x)", "from numpy import load", "f(allow_pickle=True)",
        "import subprocess; subprocess.run(x, shell=True)", "import os; os.system(x)", "from yaml import safe_load",
        "import torch.hub", "from torch import hub", "import torch; torch.serialization.load(x)",
        "import torch.distributed as dist; dist.broadcast_object_list(x)", "from importlib import import_module",
    ],
)  # fmt: skip
def test_what_is_forbidden_is_seen(line: str) -> None:
    assert forbidden(ast.parse(line))


@pytest.mark.parametrize(
    "line",
    [
        "model.eval()", "import torch; torch.compile(x)", "re.compile(x)", "import json; json.loads(x)", "import torch",
        "from safetensors.torch import load_file", "import subprocess; subprocess.run([x])", "self.load(x)",
    ],
)  # fmt: skip
def test_what_is_harmless_is_not(line: str) -> None:
    assert not forbidden(ast.parse(line))
