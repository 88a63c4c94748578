"""Draws mutated files with hypothesis, has each read in another process, and counts how the readings end.

    python benchmarks/fuzz.py --count 2000 [--only "shard"] [--keep FOLDER]
    python benchmarks/fuzz.py --again

The first prints a table: kind, inputs, refused with a clear error, read right, findings. What is found is kept in
FOLDER, as tests/fuzz/findings/ holds what was found before; the second reads all of that again.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import select
import signal
import struct
import sys
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

KINDS_OF_FILES = Path(__file__).parents[1] / "tests" / "fuzz"
FINDINGS = KINDS_OF_FILES / "findings"
"""JSON files of what once broke something: its kind, what happened ("was"), and the input, as text or packed."""
sys.path.insert(0, str(KINDS_OF_FILES))

from child import send, serve  # noqa: E402
from kind import Kind  # noqa: E402
from kinds import KINDS  # noqa: E402
from mutations import mutated  # noqa: E402

HANG = 20.0
"""Seconds after which a reading counts as a hang; the slowest honest one takes 0.05."""
AHEAD = 20
"""Inputs handed over before their answers are read: neither process waits for the other at each."""
NUMBER = st.integers(0, 2**32)
MUTATIONS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=4)


class Reader:
    """A process, forked from this one, that reads files of one kind; started again after a crash or a hang."""

    def __init__(self, kind: Kind) -> None:
        """Start it; `whole` is the file that mutations begin with."""
        self._kind = kind
        self.whole = self._start()

    def _start(self) -> bytes:
        requested, ask = os.pipe()
        answers, answer = os.pipe()
        self._process = os.fork()
        if not self._process:
            os.close(ask)
            os.close(answers)
            try:
                serve(self._kind, os.fdopen(requested, "rb"), os.fdopen(answer, "wb"))
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(requested)
        os.close(answer)
        self._ask, self._answers = os.fdopen(ask, "wb"), os.fdopen(answers, "rb", buffering=0)
        whole = self._answer(120.0)
        if whole is None:
            raise SystemExit("a reader did not read the file it made")
        return whole

    def __call__(self, inputs: Sequence[bytes]) -> list[str]:
        """Return "read", "refused: ...", "raised: ...", "crashed: ..." or "hung: ..." for each."""
        found: list[str] = []
        while len(found) < len(inputs):
            found += self._some(inputs[len(found) : len(found) + AHEAD])
        return found

    def _some(self, inputs: Sequence[bytes]) -> list[str]:
        """Return what is told of some inputs, up to the first that the process does not outlive."""
        with suppress(BrokenPipeError):
            for data in inputs:
                send(self._ask, data)
        found: list[str] = []
        for _ in inputs:
            answer = self._answer(HANG)
            if answer is None:
                return [*found, self._ended()]
            found.append(answer.decode("utf-8", "replace"))
        return found

    def _answer(self, seconds: float) -> bytes | None:
        """Return the next answer, or None where the process ended or did not answer in time."""
        if not select.select([self._answers], [], [], seconds)[0]:
            return None
        header = self._exactly(4)
        return self._exactly(int(struct.unpack("<I", header)[0])) if len(header) == 4 else None

    def _exactly(self, size: int) -> bytes:
        """Return so many bytes, or fewer where the process ended."""
        data = b""
        while len(data) < size and (more := self._answers.read(size - len(data))):
            data += more
        return data

    def _ended(self) -> str:
        """Say how the process ended, or that it hangs, and start another."""
        time.sleep(0.2)
        done, status = os.waitpid(self._process, os.WNOHANG)
        if done:
            self._process = 0
        content = f"crashed: signal {os.waitstatus_to_exitcode(status)}" if done else f"hung: {HANG:.0f} s"
        self.close()
        self._start()
        return content

    def close(self) -> None:
        """End the process."""
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
        for stream in (self._ask, self._answers):
            with suppress(BrokenPipeError):
                stream.close()


def fuzz(kind: Kind, count: int, *, seed: int) -> tuple[Counter[str], dict[str, bytes]]:
    """Return how many readings of a kind ended how, and one input of each finding by what was told."""
    reader, ends, found = Reader(kind), Counter[str](), {}
    inputs: list[bytes] = []

    @seeded(seed)
    @settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(MUTATIONS)
    def one(mutations: list[tuple[int, int, int]]) -> None:
        inputs.append(mutated(reader.whole, mutations, is_json=kind.is_json))

    try:
        one()
        for data, entries in zip(inputs, reader(inputs), strict=True):
            end = entries.split(":")[0]
            ends[end] += 1
            if end not in ("read", "refused"):
                found.setdefault("\n".join(entries.strip().splitlines()[-3:]), data)
    finally:
        reader.close()
    return ends, found


def keep(folder: Path, name: str, *, kind: str, was: str, data: bytes) -> None:
    """Write down a finding; what is no short text is packed: zlib, in base64."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = {"text": data.decode()} if len(data) < 1500 else {"packed": packed(data)}
    except UnicodeDecodeError:
        held = {"packed": packed(data)}
    content = json.dumps({"kind": kind, "was": was, **held}, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(content + "\n", encoding="utf-8")


def packed(data: bytes) -> str:
    """Return bytes as a text of letters and digits."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def again() -> int:
    """Read every finding again, print how each ends; return 1 where one is still none of "read" and "refused"."""
    by_kind: dict[str, list[Path]] = {}
    for file in sorted(FINDINGS.glob("*.json")):
        by_kind.setdefault(json.loads(file.read_text(encoding="utf-8"))["kind"], []).append(file)
    bad = 0
    for name, files in by_kind.items():
        reader = Reader(KINDS[name])
        for file, found in zip(files, reader([_held(file) for file in files]), strict=True):
            bad += found.split(":")[0] not in ("read", "refused")
            print(f"{file.stem}: {found}"[:1000])
        reader.close()
    return 1 if bad else 0


def _held(file: Path) -> bytes:
    held = json.loads(file.read_text(encoding="utf-8"))
    return held["text"].encode() if "text" in held else zlib.decompress(base64.b64decode(held["packed"]))


def main() -> int:
    """Fuzz every kind, print the table; return 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="read what was found before, and nothing else")
    parser.add_argument("--count", type=int, default=100, help="mutated inputs of each kind")
    parser.add_argument("--only", help="kinds whose name holds this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs of findings")
    given_words = parser.parse_args()
    if given_words.again:
        return again()
    total, everything, began = Counter[str](), 0, time.perf_counter()
    print("| kind | inputs | refused with a clear error | read right | findings |\n|---|---|---|---|---|")
    for name, kind in KINDS.items():
        if given_words.only and given_words.only not in name:
            continue
        ends, found = fuzz(kind, given_words.count, seed=given_words.seed)
        bad = sum(ends.values()) - ends["read"] - ends["refused"]
        everything += bad
        total.update(ends)
        print(f"| {name} | {sum(ends.values()):,} | {ends['refused']:,} | {ends['read']:,} | {bad:,} |", flush=True)
        for number, (entries, data) in enumerate(found.items()):
            print(f"finding in {name}: {entries}\n", file=sys.stderr, flush=True)
            if given_words.keep:
                place = f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{number}"
                keep(given_words.keep, place, kind=name, was=entries.splitlines()[-1][:200], data=data)
    print(f"| **all** | {sum(total.values()):,} | {total['refused']:,} | {total['read']:,} | {everything:,} |")
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
    return 1 if everything else 0


if __name__ == "__main__":
    sys.exit(main())
