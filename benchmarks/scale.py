"""Turns the sizes of a model and published speeds of links into what a run would cost on 1 to 1,024 GPUs: scale.md.

    PYTHONPATH=src python benchmarks/scale.py --size base > benchmarks/scale.md

A model, not a measurement: every assumption is printed above its table. Work and parameters are counted by bertwright's
own functions, bytes are those it was seen to write; speeds of GPUs and links are those of data sheets.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from bertwright.model.build import build_encoder, named_size
from bertwright.model.config import training_flops
from bertwright.model.encoder import parameter_count
from bertwright.objectives.masking import masked_slots
from bertwright.train.optim.muon import hidden_matrices

ROWS, LENGTH, MASK_RATE, VOCABULARY, ITERATIONS = 4096, 512, 0.3, 32768, 3
TOKENS = 100e9
PEAK, UTILISATION = 989.4e12, 0.45
NVLINK, NETWORK, ACHIEVED = 450e9, 50e9, 0.8
LATENCY = 10e-6
GPUS_A_NODE, DISK = 8, 2e9
DOLLARS, TOKEN_BYTES = 2.5, 2.3
COUNTS = tuple(2**n for n in range(11))

SAVED = 24
"""Bytes of a checkpoint a parameter, at most: weights and two moments, of the last state and of the one to go back to.
Seen on disk: 16.1 for one state with a mean of the weights kept too (classic, tiny), 16 by this count."""

ASSUMED = [
    ("batch", f"{ROWS:,} rows of {LENGTH} tokens, whatever the GPUs", "the order of RoBERTa's 8,000 (Liu et al. 2019)"),
    ("length of the run", f"{TOKENS / 1e9:,.0f} billion tokens", ""),
    (
        "peak of a GPU",
        f"{PEAK / 1e12:,.1f} TFLOP/s, bf16, dense",
        "NVIDIA, data sheet of the H100 SXM (twice that with sparsity)",
    ),
    (
        "share of it reached",
        f"{UTILISATION:.0%}",
        "**assumed**, no GPU was at hand; on 2 CPU cores bertwright reaches 77 to 84% at this size "
        "(`results/step-base.json`), where memory is less of a limit",
    ),
    (
        "inside a node",
        f"{GPUS_A_NODE} GPUs, {NVLINK / 1e9:.0f} GB/s a GPU each way",
        "NVIDIA, NVLink 4: 900 GB/s, both ways together",
    ),
    (
        "between nodes",
        f"{NETWORK / 1e9:.0f} GB/s a GPU each way",
        "InfiniBand NDR, 400 Gb/s, a port a GPU as in NVIDIA's DGX H100",
    ),
    ("of both reached", f"{ACHIEVED:.0%}", "**assumed**"),
    ("a message's start", f"{LATENCY * 1e6:.0f} microseconds a hop", "**assumed**"),
    (
        "messages behind work",
        "none",
        "pessimistic: DDP hides some, but a compiled backward pass hands over its gradients at its end",
    ),
    ("disk that all nodes see", f"{DISK / 1e9:.0f} GB/s a node", "**assumed**"),
    ("checkpoints", "written beside the steps", "`train/checkpoint/saver.py`: a step waits for a copy in memory alone"),
    (
        "bytes of shards a token",
        f"{TOKEN_BYTES}",
        "measured: English, vocabulary 8,192, 60.5 MB for 26.6 million tokens",
    ),
    ("price", f"${DOLLARS} an hour and GPU", "**assumed**, rented"),
]
"""What the page takes for granted: name, value, source."""


@dataclass(frozen=True)
class Model:
    """What of a model decides the cost: parameters, those in Muon's matrices, operations of a step and of Muon."""

    parameters: int
    hidden: int
    flops: int
    muon_flops: int


def model_of(size: str) -> Model:
    """Return the figures of a size of recipe fast."""
    shape = named_size(size, architecture="modern", vocab_size=VOCABULARY, pad_token_id=0)
    model = build_encoder(shape)
    work = training_flops(shape, rows=ROWS, length=LENGTH, masked=masked_slots(LENGTH, MASK_RATE))
    matrices = hidden_matrices(model)
    turns = [ITERATIONS * 2 * min(m.shape) ** 2 * (2 * max(m.shape) + min(m.shape)) for m in matrices]
    return Model(parameter_count(model), sum(m.numel() for m in matrices), work, sum(turns))


def all_reduce(size: float, gpus: int) -> float:
    """Return seconds to sum `size` bytes over GPUs: in the node, between nodes an eighth each, in the node again."""
    inside, nodes = min(gpus, GPUS_A_NODE), max(1, gpus // GPUS_A_NODE)
    within = 2 * (inside - 1) / inside * size / (NVLINK * ACHIEVED)
    between = 2 * (nodes - 1) / nodes * size / inside / (NETWORK * ACHIEVED)
    return within + between + LATENCY * 2 * (inside - 1 + nodes - 1)


def step(model: Model, gpus: int, *, sharded: bool) -> tuple[float, float]:
    """Return seconds of work and of messages in a step.

    ddp sums gradients (float32) and gathers Muon's updates (bf16). fsdp gathers weights twice and scatters gradients,
    each half an all-reduce, and sends Muon's matrices there and back.
    """
    work = (model.flops + model.muon_flops) / gpus / (PEAK * UTILISATION)
    if gpus == 1:
        return work, 0.0
    halves = 3 if sharded else 2
    sent = halves / 2 * all_reduce(4 * model.parameters, gpus)
    link = NVLINK if gpus <= GPUS_A_NODE else NETWORK
    there_and_back = 2 * 2 * model.hidden / gpus / (link * ACHIEVED)
    return work, sent + (there_and_back if sharded else all_reduce(2 * model.hidden, gpus) / 2)


def table(model: Model, *, sharded: bool) -> str:
    """Return a row a count of GPUs."""
    lines = [
        "| GPUs | rows a GPU | work | messages | tokens/s | of ideal | days | GPU hours | dollars | state a GPU | "
        "checkpoint written in | data read a GPU |",
        "|---:|" + "---:|" * 11,
    ]
    alone = ROWS * LENGTH / step(model, 1, sharded=sharded)[0]
    for gpus in COUNTS:
        work, sent = step(model, gpus, sharded=sharded)
        speed = ROWS * LENGTH / (work + sent)
        hours = TOKENS / speed / 3600
        state = 16 * model.parameters / (gpus if sharded else 1)
        saved = SAVED * model.parameters / (max(1, gpus // GPUS_A_NODE) * DISK)
        lines.append(
            f"| {gpus:,} | {ROWS / gpus:,.0f} | {work * 1e3:,.1f} ms | {sent * 1e3:,.1f} ms | {speed:,.0f} "
            f"| {speed / alone / gpus:.0%} | {hours / 24:,.2f} | {hours * gpus:,.0f} | {hours * gpus * DOLLARS:,.0f} "
            f"| {state / 1e9:.2f} GB | {saved:.2f} s | {speed / gpus * TOKEN_BYTES / 1e6:.2f} MB/s |"
        )
    return "\n".join(lines)


def page(size: str) -> str:
    """Return the whole page."""
    model = model_of(size)
    parameters, hidden = (f"{count / 1e6:,.0f}" for count in (model.parameters, model.hidden))
    return f"""# What a run would cost on 1 to 1,024 GPUs

Made by `benchmarks/scale.py`: a model of the cost, not a measurement. No GPU was at hand; measured are bytes, and speed
on CPUs.

`{size}` of recipe fast: {parameters} million parameters, {hidden} million of them in Muon's matrices;
{model.flops / 1e15:,.1f} PFLOP a step and {model.muon_flops / 1e15:,.3f} for Muon. Gradients are
{4 * model.parameters / 1e6:,.0f} MB, a checkpoint {SAVED * model.parameters / 1e9:.1f} GB at most.

## Assumptions

| assumption | value | where it comes from |
|---|---|---|
{chr(10).join(f"| {name} | {value} | {source} |" for name, value, source in ASSUMED)}

## ddp: every GPU holds all weights

{table(model, sharded=False)}

## fsdp: every GPU holds a share of them

{table(model, sharded=True)}

## What it says

- Within a node, messages are next to nothing. With {ROWS:,} rows a step the network sets the end: from 512 GPUs on,
  messages take longer than work. More rows a step, not more GPUs, is then the way.
- Weights and moments of this size fit any GPU: fsdp sends half as much again and gains nothing but memory. It is for
  models whose state, 16 bytes a parameter, does not fit.
- Data are no limit, at megabytes a second; nor are checkpoints, which are written beside the steps.
"""


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--size", default="base")
    print(page(words.parse_args().size), end="")
