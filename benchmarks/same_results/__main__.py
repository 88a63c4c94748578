"""Runs two commits on this machine, verb by verb, and says where their results are not the same.

    python benchmarks/same_results BEFORE AFTER [--only PATTERN...] [--allow NAME...] [--within 1e-6] [--out same.json]
    python benchmarks/same_results HEAD HEAD                  # is everything reproducible?
    python benchmarks/same_results v1 .                       # a tag, and the tree of this folder as it stands

For fixed seeds both make one small run of every verb, recipe, task and strategy (cases.py) on texts written for that
(inputs.py); then every file that either has left is compared (comparer.py): shards, vocabularies, weights tensor by
tensor, figures, predictions, vectors, ONNX graphs and what they answer, tables, reports. Nearly all cases read DATA,
RUN and MODEL folders that the first commit has made, and both resume runs of the first that were killed. The command
line is the interface: nothing of bertwright is imported here.

It prints a line for each case, and one for each file that differs; --out has every difference, named CASE/FILE:KEY. It
ends with 1 where one is neither allowed (--allow takes such names, with * for anything, such as classic/run/result.json
or "*/checksums.json:files.*") nor of numbers that are at most --within apart.

Not compared: `quickstart` and runs of --minutes, which follow the clock; the training of Unigram vocabularies, which is
not the same twice (one is made by the first commit, and given to both); what commands say while they work (stderr).
Of `bench` only the names of its figures are compared. There is no case for `prepare` on Ray, nor for GPUs.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cases import CASES, Case
from comparer import Difference, compare_folders, state
from inputs import write_inputs
from runner import RECORD, Side, check_out, run_both

REPOSITORY = Path(__file__).parents[2]
REFUSED = "resumed"
"""Begins the names of cases in which the second commit may refuse what the first has begun, in one sentence."""


@dataclass(frozen=True)
class Verdict:
    """What a case has shown."""

    files: int
    refused: str
    """The sentence by which the second commit refused to go on."""
    failed: str
    """What a command said that failed under the first commit, or under both."""
    differences: list[Difference]


def verdict_of(case: Case, one: Side, two: Side) -> Verdict:
    """Compare what a case has left under both commits."""
    codes = [
        [content["exit"] for content in json.loads((side.folder(case) / RECORD).read_text())] for side in (one, two)
    ]
    if codes[0][-1]:
        return Verdict(0, "", last_words(one, case), [])
    predicted = last_words(two, case) if codes[1][-1] else ""
    if codes[1][-1] == 1 and case.name.startswith(REFUSED) and "\n" not in predicted:
        return Verdict(0, predicted, "", [])
    compared = compare_folders(one.folder(case), two.folder(case))
    found = [
        Difference(f"{case.name}/{each.name}", each.what, each.size) for some in compared.values() for each in some
    ]
    if predicted:
        found = [Difference(f"{case.name}/{RECORD}", f"the second fails: {predicted.splitlines()[-1]}")]
    return Verdict(len(compared), "", "", found)


def last_words(side: Side, case: Case) -> str:
    """Return what the last command of a case said of its failure."""
    predicted = sorted(side.folder(case).glob("*.err"), key=lambda path: int(path.name.partition("-")[0]))
    return predicted[-1].read_text(encoding="utf-8", errors="replace").strip() if predicted else "it has said nothing"


def chosen(patterns: Sequence[str]) -> tuple[list[Case], list[Case]]:
    """Return the cases to run, those they go on from among them, and the cases to compare."""
    wanted = [case for case in CASES if not patterns or any(fnmatchcase(case.name, f"*{each}*") for each in patterns)]
    compared, needed = [case for case in wanted if not case.once], {case.name for case in wanted}
    for case in reversed(CASES):
        if case.name in needed:
            needed |= case.needs
    return [case for case in CASES if case.name in needed], compared


@contextmanager
def sides(commits: Sequence[str], folder: Path, *, steps: int, seed: int) -> Iterator[tuple[Side, Side]]:
    """Check out both commits, write the inputs, and start both sides."""
    write_inputs(folder / "in", seed)
    trees = [
        check_out(REPOSITORY, commit, folder / f"tree-{n}") for n, commit in zip(("one", "two"), commits, strict=True)
    ]
    one, two = (Side(name, src, folder, steps=steps) for name, src in zip(("one", "two"), trees, strict=True))
    try:
        yield one, two
    finally:
        one.close()
        two.close()


def compare(given: argparse.Namespace, folder: Path) -> bool:
    """Run what is asked for, print a table, write JSON; say whether all that differs is allowed."""
    cases, compared = chosen(given.only)
    began, seconds, content, good = time.perf_counter(), 0.0, {}, True
    with sides((given.before, given.after), folder, steps=given.steps, seed=given.seed) as (one, two):
        for count, case in enumerate(run_both(one, two, cases, compared), 1):
            verdict = verdict_of(case, one, two)
            good &= show(case, verdict, given)
            content[case.name] = {
                "files": verdict.files,
                "differences": [written(each) for each in verdict.differences],
            }
            content[case.name] |= {"refused": verdict.refused, "failed": verdict.failed}
            seconds = time.perf_counter() - began
            left = seconds / count * (len(compared) - count)
            print(f"{count} of {len(compared)} cases, about {left / 60:.1f} min left", file=sys.stderr, flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = f"{seconds / 60:.1f} min ({cpu.ru_utime + cpu.ru_stime:.0f} s of processors)"
    print(f"{len(compared)} cases in {spent}: {'the same' if good else 'NOT THE SAME'}")
    return good


def written(difference: Difference) -> dict[str, str | float | None]:
    """Return a difference as JSON has it."""
    size = difference.size if math.isfinite(difference.size) else None
    return {"name": difference.name, "what": difference.what, "size": size}


def show(case: Case, verdict: Verdict, given: argparse.Namespace) -> bool:
    """Print the lines of a case, one for each file that differs; say whether all that differs is allowed."""
    found: dict[tuple[str, str], list[Difference]] = {}
    for each in verdict.differences:
        entries = state(each, allow=given.allow, within=given.within)
        found.setdefault((entries, each.name.partition(":")[0]), []).append(each)
    if verdict.failed:
        print(f"{case.name:22} FAILS under the first commit: {verdict.failed}")
    elif verdict.refused:
        print(f"{case.name:22} the second commit refuses it: {verdict.refused}")
    else:
        unequal = len({file for _, file in found})
        print(
            f"{case.name:22} "
            + (f"{verdict.files} files, {unequal} not equal" if unequal else f"equal ({verdict.files} files)")
        )
    for (entries, file), differences in found.items():
        print(f"    {entries:8} {file}{in_short(differences)}")
    sys.stdout.flush()
    allowed = bool(verdict.failed) and any(fnmatchcase(case.name, pattern) for pattern in given.allow)
    return (not verdict.failed or allowed) and not any(entries == "DIFFERS" for entries, _ in found)


def in_short(differences: Sequence[Difference]) -> str:
    """Return where a file differs, and by how much: up to three places, what is no matter of numbers first."""
    worst = sorted(differences, key=lambda each: -each.size)
    places = "; ".join(f"{each.name.partition(':')[2]} {each.what}".strip() for each in worst[:3])
    return f": {places}" + (f"; and {len(worst) - 3} more" if len(worst) > 3 else "")


def main() -> None:
    """Read the words of the call; exit with 1 where something differs that should not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="a commit, or the folder of a tree")
    parser.add_argument("after", help="the same")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="cases whose names hold one of these")
    parser.add_argument("--allow", nargs="+", default=[], metavar="NAME", help="differences that are meant to be")
    parser.add_argument("--within", type=float, default=0.0, help="largest difference of numbers that counts as none")
    parser.add_argument("--steps", type=int, default=6, help="steps of each pre-training run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the inputs")
    parser.add_argument("--out", type=Path, help="JSON file for all that was found")
    parser.add_argument("--keep", type=Path, help="folder to work in, which stays; it must not be there yet")
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True)
        raise SystemExit(not compare(given, given.keep.resolve()))
    with tempfile.TemporaryDirectory() as folder:
        raise SystemExit(not compare(given, Path(folder).resolve()))


if __name__ == "__main__":
    main()
