"""Turns two folders of results into what differs between them: which files, and in a file which keys or tensors.

What tells when, how fast, where or by which version a thing was made is left out, by name of file and key (see TIMED),
or by its unit in a text. Nothing else is.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

TIMED: tuple[tuple[str, str], ...] = (
    ("*metrics.jsonl", "seconds tokens_per_second mfu peak_flops waiting memory device_memory"),
    (
        "*result.json",
        "seconds setup_seconds tokens_per_second examples_per_second mfu peak_flops checkpoints.stalled_seconds",
    ),
    ("*manifest.json", "bertwright versions machine launch"),
    ("*/checkpoints/*manifest.json", "files.*position.json files.*shard-*.xxh3_128"),
    ("*report.json", "seconds megabytes_per_second"),
    ("*position.json", "position.seconds position.setup_seconds position.stalled"),
    ("*onnx.json", "made_with rows_a_second"),
    ("*bench.json", "*"),
)
"""By pattern of file, keys whose values are left out, with all below them. Of a benchmark's figures the names alone are
compared; of checkpoints not the checksums of position.json, which holds seconds, and of ANY_ORDER."""
ANY_ORDER = "*shard-*.safetensors"
"""Checkpoints of several processes: torch writes what describes them in no fixed order, so that values alone count."""
UNITS = r"(?:tokens|examples|texts|sentences|rows|MB|GFLOP|TFLOP)/s|s\b|seconds|minutes|min\b|ms\b"
TIMES = (
    (re.compile(rf"[\d.,]+ (?={UNITS})"), "# "),
    (re.compile(r"MFU( \|)? [\d.]+%"), "MFU #"),
    (re.compile(r"(\| peak memory \|) [\d.,]+"), r"\1 #"),
    (re.compile(r"(steps waited # s for them) \([\d.]+%\)"), r"\1"),
    (re.compile(r"((?:rows|texts) (?:a|per) second|times torch in float32)(?: \| [\d.,]+)+"), r"\1 | #"),
    (re.compile(r"(\| seconds \|) [\d.,]+(?: \([a-z][^|]*\))?"), r"\1 #"),
)
"""What tells how long things took in a text, and how much memory."""
LEFT_OUT = ("*.err", "*.lock")
"""Files that are not compared: what commands say while they work, how far they are and for how long; locks."""
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
BARS, LINES = re.compile(r"[\s─-╿]*[│┃][\s─-╿]*"), re.compile(r"[\s─-╿]+")
"""What parts the cells of tables, and lines and blanks, whose lengths follow the numbers in them."""
PICTURE, LABEL = re.compile(r"<svg.*?</svg>", re.DOTALL), re.compile(r"<!-- ([^<]*[^\d<. −-][^<]*) -->")
"""Curves are drawn over minutes: of a picture the labels that are no numbers are compared, which are comments in it."""


@dataclass(frozen=True)
class Difference:
    """That two results differ in a place."""

    name: str
    """The file, and after a colon the key or tensor in it."""
    what: str
    size: float = float("inf")
    """Largest absolute difference of the numbers there; infinite where something else differs."""


def state(difference: Difference, *, allow: Sequence[str], within: float) -> str:
    """Say whether a difference is "allowed" by its name, numbers near enough ("within"), or neither ("DIFFERS")."""
    names = (difference.name, difference.name.partition(":")[0])
    if any(fnmatchcase(name, pattern) for name in names for pattern in allow):
        return "allowed"
    return "within" if difference.size <= within else "DIFFERS"


def compare_folders(one: Path, two: Path) -> dict[str, list[Difference]]:
    """Return what differs in each file of either folder, by its path in them; nothing where a file is the same."""
    names = sorted({str(path.relative_to(root)) for root in (one, two) for path in root.rglob("*") if path.is_file()})
    compared = {}
    for name in names:
        if any(fnmatchcase(name, pattern) for pattern in LEFT_OUT):
            continue
        missing = [side for side, root in (("first", one), ("second", two)) if not (root / name).is_file()]
        if missing:
            compared[name] = [Difference(name, f"the {missing[0]} has no such file")]
        else:
            compared[name] = compare_files(one, two, name)
    return compared


def compare_files(one: Path, two: Path, name: str) -> list[Difference]:
    """Return what differs in a file that both folders have."""
    if sha256(one / name) == sha256(two / name):
        return []
    suffix = Path(name).suffix
    if suffix in READERS:
        try:
            found = compare_values(name, *(flat(READERS[suffix](root / name), name) for root in (one, two)))
        except (ValueError, OSError) as error:
            return [Difference(name, f"it cannot be read: {error}")]
        exact = suffix in (".json", ".jsonl", ".toml") or fnmatchcase(name, ANY_ORDER)
        return found or ([] if exact else [Difference(name, "the same values in other bytes")])
    if suffix in TEXTS:
        return compare_texts(name, *(text_of(root / name, root) for root in (one, two)))
    return [Difference(name, "other bytes")]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flat(value: Any, name: str) -> dict[str, list[Any]]:
    """Return the values under each key of a tree, without those that are timed; places in lists are no keys."""
    timed = [key for pattern, keys in TIMED if fnmatchcase(name, pattern) for key in keys.split()]
    found: dict[str, list[Any]] = {}
    for key, one in walk(value, ""):
        parts = key.split(".")
        above = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        hidden = any(fnmatchcase(one, pattern) for one in above for pattern in timed)
        found.setdefault(key, []).append("left out" if hidden else one)
    return found


def walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield each value of a tree with its key, and how many there are in each list."""
    if isinstance(value, Mapping):
        yield from ((f"{key}{{}}", 0) for _ in range(not value))
        for name, below in value.items():
            yield from walk(below, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        yield f"{key}[]", len(value)
        for below in value:
            yield from walk(below, key)
    else:
        yield key, value


def compare_values(name: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> list[Difference]:
    """Return which keys two files do not share, and where their values differ, by how much at most."""
    found = []
    for key in dict.fromkeys([*one, *two]):
        place = f"{name}:{key}"
        if key not in one or key not in two:
            found.append(Difference(place, f"the {'first' if key not in one else 'second'} has none"))
        elif (given := difference(one[key], two[key])) is not None:
            found.append(Difference(place, given[0], float("inf") if key.endswith("[]") else given[1]))
    return found


def difference(one: Any, two: Any) -> tuple[str, float] | None:
    """Return how values of one key differ, and by how much at most; None where they do not."""
    if len(one) != len(two):
        return f"{len(one)} values, {len(two)} values", float("inf")
    if one and isinstance(one[0], np.ndarray):
        return array_difference(one[0], np.asarray(two[0]))
    apart = [
        pair for pair in zip(one, two, strict=True) if pair[0] != pair[1] or is_number(pair[0]) != is_number(pair[1])
    ]
    if not apart:
        return None
    if all(is_number(value) for pair in apart for value in pair):
        largest = max(abs(float(left) - float(right)) for left, right in apart)
        return f"{len(apart)} of {len(one)} numbers, by {largest:.2g} at most", largest
    left, right = apart[0]
    return f"{shortened(left)} / {shortened(right)}", float("inf")


def array_difference(one: np.ndarray, two: np.ndarray) -> tuple[str, float] | None:
    """Return how two arrays differ, and by how much at most; NaN in the same place is the same."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return f"{one.dtype} {list(one.shape)} / {two.dtype} {list(two.shape)}", float("inf")
    if one.tobytes() == two.tobytes():
        return None
    if one.dtype.kind not in "fiu":
        return "other values", float("inf")
    apart = np.abs(one.astype(np.float64) - two.astype(np.float64))
    largest = float(apart.max()) if np.isfinite(apart).all() else float("inf")
    return f"{np.count_nonzero(apart)} of {apart.size} numbers, by {largest:.2g} at most", largest


def is_number(value: Any) -> bool:
    """Say whether a value is a number that can be subtracted."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shortened(value: Any) -> str:
    """Return a value as text of at most 60 characters."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def compare_texts(name: str, one: str, two: str) -> list[Difference]:
    """Return whether two texts differ in their numbers ("figures") or in what stands between them ("words")."""
    found = []
    figures = [[float(given.replace(",", "")) for given in NUMBER.findall(text)] for text in (one, two)]
    if figures[0] != figures[1]:
        given = difference(*figures)
        assert given is not None
        found.append(Difference(f"{name}:figures", *given))
    words = [NUMBER.sub("0", text).split() for text in (one, two)]
    if words[0] != words[1]:
        place = next(
            (n for n, pair in enumerate(zip(*words, strict=False)) if pair[0] != pair[1]), min(map(len, words))
        )
        shown = (" ".join(text[place : place + 8]) for text in words)
        found.append(Difference(f"{name}:words", " / ".join(f"... {shortened(text)}" for text in shown)))
    return found


def text_of(path: Path, root: Path) -> str:
    """Return a text without what is timed, the lines of tables, and the name of the folder it stands in."""
    text = path.read_text(encoding="utf-8", errors="replace").replace(str(root), "HERE")
    if path.suffix == ".html":
        text = html.unescape(PICTURE.sub(lambda picture: " ".join(LABEL.findall(picture[0])), text))
    text = LINES.sub(" ", BARS.sub(" | ", text))
    for pattern, instead in TIMES:
        text = pattern.sub(instead, text)
    return text


def read_tensors(path: Path) -> Any:
    """Return the tensors of a file by name, and its metadata; in float32 where numpy has no such type."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        about = {"metadata": file.metadata() or {}}
    return about | {
        name: (one.float() if one.dtype == torch.bfloat16 else one).numpy() for name, one in tensors.items()
    }


def read_table(path: Path) -> Any:
    """Return the columns of a file of Arrow or Parquet as lists."""
    import pyarrow as pa
    from pyarrow import parquet

    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pydict()
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all().to_pydict()


def read_graph(path: Path) -> Any:
    """Return the weights of an ONNX graph by name, and the operators in their order."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    return {**weights, "operators": [node.op_type for node in graph.node]}


def read_lines(path: Path) -> Any:
    """Return the objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": read_tensors,
    ".npy": lambda path: {"vectors": np.load(path)},
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".jsonl": read_lines,
    ".toml": lambda path: tomllib.loads(path.read_text(encoding="utf-8")),
    ".arrow": read_table,
    ".parquet": read_table,
    ".onnx": read_graph,
}
"""By suffix, what reads a file into a tree of values."""
TEXTS = (".out", ".html", ".md", ".txt", ".csv", ".tsv")
