"""Our side of a comparison in turns: the steps that `bertwright bench` measures, a turn of them at a time.

python benchmarks/gpu_parts/our_side.py step --data DATA --warm 5 --turn-steps 20 --settings '{"size": "mini"}'
python benchmarks/gpu_parts/our_side.py finetune --model MODEL --train FILE --warm 5 --turn-steps 20
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gate import Gate

from bertwright.train.callbacks.base import StepReport
from bertwright.verbs.bench import bench
from bertwright.verbs.calls.measuring import bench_training


def main() -> None:
    """Read the words of the call and train until no further turn is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["step", "finetune"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--recipe", default="classic")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--warm", type=int, default=5)
    parser.add_argument("--turn-steps", type=int, default=20)
    parser.add_argument("--settings", type=json.loads, default={})
    given = parser.parse_args()
    gate, usual = Gate(given.warm, given.turn_steps), bench_training.Marks.on_step

    def on_step(self: bench_training.Marks, report: StepReport) -> None:
        usual(self, report)
        epochs = self.epochs[-1] - (self.epochs[-2] if len(self.epochs) > 1 else 0.0)
        if not gate.step(tokens=report.sums["tokens"], flops=report.sums["flops"], epochs=epochs):
            raise SystemExit

    bench_training.Marks.on_step = on_step  # type: ignore[method-assign]
    endless = 1_000_000
    if given.what == "step":
        bench("step", data=given.data, recipe=given.recipe, steps=endless, settings=given.settings)
    else:
        bench("finetune", ["classify"], model=given.model, train=given.train, steps=endless, settings=given.settings)


if __name__ == "__main__":
    main()
