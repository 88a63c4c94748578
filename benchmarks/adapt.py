"""Goes on from one model on the text of a domain in several ways: what each brings there, and what it forgets.

    python benchmarks/adapt.py --model MODEL --data domain --general general --minutes 5 --variants all --out out.jsonl
    python benchmarks/adapt.py --make base --make-minutes 5 --data domain --general general --minutes 3 --rows 256 \
        --length 512 --out gpu.jsonl

Without --model, one of the size after --make is trained first on the general text, with classic-fast, and kept beside
the output. One JSON line a run, written as it ends: the variant, how it was run, tokens a second, MFU, and the held-out
figures of both texts before and after. Runs that stand in the file already are left out, so that the same command goes
on where it stopped. At toy size, in a minute on a CPU: --make tiny --make-minutes 0.3 --minutes 0.3.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from bertwright.device import machine, pick_device
from bertwright.nested import merge
from bertwright.verbs.pretrain import pretrain

HELD, FALLING = 0.8, 0.2
VARIANTS: dict[str, dict[str, Any]] = {
    "adapt": {},
    "no replay": {"data": {"replay": 0.001}},
    "replay 20%": {"data": {"replay": 0.2}},
    "15% masked throughout": {"objective": {"mask_phases": [{"rate": 0.15, "share": 1.0}]}},
    "30% masked throughout": {"objective": {"mask_phases": [{"rate": 0.3, "share": 1.0}]}},
    "causal, then masked": {"schedule": {"causal": True}},
    "rate 2e-4": {"optimizer": {"learning_rate": 2e-4}},
    "rate 1e-3": {"optimizer": {"learning_rate": 1e-3}},
    "Muon": {"optimizer": {"name": "muon", "learning_rate": 1e-3, "muon_learning_rate": 3e-3, "muon_iterations": 3}},
    "from scratch, classic-fast": {"recipe": "classic-fast", "objective": {"next_sentence": False}},
}
"""By name: settings over those of the recipe adapt; "causal" and "recipe" are told apart below."""
FIGURES = (
    "seconds", "steps", "tokens", "tokens_per_second", "mfu", "peak_flops", "parameters", "valid", "before_after",
)  # fmt: skip
"""What a line keeps of result.json."""


def settings_of(name: str, given: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return the recipe and the settings of a variant."""
    over = {key: dict(value) if isinstance(value, dict) else value for key, value in VARIANTS[name].items()}
    recipe = over.pop("recipe", "adapt")
    causal = over.get("schedule", {}).pop("causal", False)
    phase = {"length": given.length, "rows": given.rows}
    phases = [{**phase, "share": HELD, "causal": True}, {**phase, "share": FALLING}] if causal else None
    schedule = {"minutes": given.minutes, "phases": phases or [{**phase, "share": 1.0}]}
    return recipe, merge(over, {"schedule": schedule, "engine": {"general": str(given.general)}})


def run(name: str, seed: int, model: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Train one run and return its figures."""
    recipe, settings = settings_of(name, given)
    start = model if recipe == "adapt" else None
    folders = [given.data, given.general]
    if recipe != "adapt":  # a model of the same size, of the domain alone
        folders, settings["size"] = [given.data], given.make or "mini"
    else:
        del settings["engine"]["general"]  # it is replayed, and evaluated anyway
    with tempfile.TemporaryDirectory() as folder:
        figures = pretrain(folders, Path(folder) / "run", recipe=recipe, init_from=start, seed=seed, settings=settings)
    return {key: figures[key] for key in FIGURES if key in figures}


def made(given: argparse.Namespace) -> Path:
    """Return the folder of the model to go on from: the given one, or one trained on the general text."""
    if given.model is not None:
        return Path(given.model)
    out = given.out.with_name(f"{given.out.stem}-{given.make}")
    if not (out / "result.json").is_file():
        phases = [{"length": given.length, "rows": given.rows, "share": 1.0}]
        settings = {"size": given.make, "schedule": {"minutes": given.make_minutes, "phases": phases}}
        pretrain(given.general, out, recipe="classic-fast", settings=settings, resume=(out / "config.toml").is_file())
    return out / "model"


def main() -> None:
    """Run what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--make", help="size of the model to train first, where none is given")
    parser.add_argument("--make-minutes", type=float, default=5.0)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--general", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", default=["adapt"], choices=[*VARIANTS, "all"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    given = parser.parse_args()
    if given.model is None and given.make is None:
        parser.error("give --model MODEL, or --make SIZE")
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    model = made(given)
    for seed in given.seeds:
        for name in VARIANTS if "all" in given.variants else given.variants:
            what = {"variant": name, "seed": seed, "minutes": given.minutes, "rows": given.rows, "length": given.length}
            if any(what.items() <= line.items() for line in done):
                continue
            line = {**what, "machine": machine(pick_device()), **run(name, seed, model, given)}
            with given.out.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
