"""Turns the sizes of a model and published speeds of links into what a run would cost on 1 to 1,024 GPUs: scale.md.

    PYTHONPATH=src python benchmarks/scale.py > benchmarks/scale.md

A model, not a measurement: every assumption is printed above the tables, with where it comes from. Work and parameters
are counted by bertwright's own functions, bytes are those it was seen to write; speeds of GPUs and links are those of
data sheets.
"""

from __future__ import annotations

import math
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
AT_A_TIME, BACKWARD, BUCKET = 64, 2 / 3, 25 * 2**20
DOLLARS, TOKEN_BYTES = 2.5, 2.3
COUNTS = tuple(2**n for n in range(11))
SIZES = ("base", "large")

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
    (
        "a message's start",
        f"{LATENCY * 1e6:.0f} microseconds a hop of a tree; ddp sends buckets of {BUCKET / 2**20:.0f} MB, fsdp blocks",
        "**assumed**; `train/parallel/wrap.py`",
    ),
    (
        "rows a GPU computes at a time",
        f"{AT_A_TIME}",
        "**assumed**; gradients are sent during the last of several such micro-batches alone",
    ),
    (
        "what messages hide behind",
        "ddp: the backward pass, two thirds of the work; fsdp: both passes",
        "order **measured** with gloo (`results/overlap`): a bucket leaves while earlier blocks are computed. That "
        "NCCL takes nothing from the work meanwhile is **assumed**",
    ),
    (
        "what is waited for",
        f"the gradients of the embeddings and a bucket of {BUCKET / 2**20:.0f} MB, which are there last; Muon's "
        "updates; zero1: moved weights; fsdp: the first gathering and last scattering; what is longer than the work",
        "counted: tied embeddings have all of their gradient at the end of the backward pass alone",
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
    """What of a model decides the cost: blocks, parameters, those in Muon's matrices and in embeddings, operations."""

    blocks: int
    parameters: int
    hidden: int
    embeddings: int
    flops: int
    muon_flops: int


def model_of(size: str) -> Model:
    """Return the figures of a size of recipe fast."""
    shape = named_size(size, architecture="modern", vocab_size=VOCABULARY, pad_token_id=0)
    model = build_encoder(shape, drawn=False)
    work = training_flops(shape, rows=ROWS, length=LENGTH, masked=masked_slots(LENGTH, MASK_RATE))
    matrices = hidden_matrices(model)
    turns = [ITERATIONS * 2 * min(m.shape) ** 2 * (2 * max(m.shape) + min(m.shape)) for m in matrices]
    words = model.word_embeddings.weight.numel()
    hidden = sum(m.numel() for m in matrices)
    return Model(len(model.blocks), parameter_count(model), hidden, words, work, sum(turns))


def all_reduce(size: float, gpus: int, *, messages: int = 1) -> float:
    """Return seconds to sum `size` bytes over GPUs: in the node, between nodes an eighth each, in the node again."""
    inside, nodes = min(gpus, GPUS_A_NODE), max(1, gpus // GPUS_A_NODE)
    within = 2 * (inside - 1) / inside * size / (NVLINK * ACHIEVED)
    between = 2 * (nodes - 1) / nodes * size / inside / (NETWORK * ACHIEVED)
    return within + between + messages * LATENCY * 2 * math.log2(inside * nodes)


def gather(size: float, gpus: int, *, messages: int = 1) -> float:
    """Return seconds until every GPU has all of `size` bytes of which each had a share, or the other way round."""
    return all_reduce(size, gpus, messages=messages) / 2


@dataclass(frozen=True)
class Step:
    """Seconds of a step: work, messages, and those of the messages that the work does not hide."""

    work: float
    messages: float
    waited: float

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.work + self.waited


def step(model: Model, gpus: int, way: str) -> Step:
    """Return the times of a step; see ASSUMED for what is hidden.

    ddp sums gradients (float32) and gathers Muon's updates (bf16); zero1 also gathers the other weights (float32), each
    moved by one GPU. fsdp gathers weights twice (bf16) and scatters gradients (float32), each half an all-reduce, and
    sends Muon's matrices there and back.
    """
    rate = gpus * PEAK * UTILISATION
    work = (model.flops + model.muon_flops) / rate
    if gpus == 1:
        return Step(work, 0.0, 0.0)
    last = model.flops / rate * min(1.0, AT_A_TIME * gpus / ROWS)  # of the micro-batch that gradients are sent in
    if way == "fsdp":
        micro_batches = max(1.0, ROWS / gpus / AT_A_TIME)
        gathered = gather(2 * model.parameters, gpus, messages=model.blocks)
        hidden = 2 * micro_batches * gathered + gather(4 * model.parameters, gpus, messages=model.blocks)
        ends = gather(2 * model.embeddings, gpus) + gather(4 * model.embeddings, gpus)
        link = NVLINK if gpus <= GPUS_A_NODE else NETWORK
        after = 2 * 2 * model.hidden / gpus / (link * ACHIEVED)
        return Step(work, hidden + after, max(hidden - model.flops / rate, ends) + after)
    tail = all_reduce(4 * model.embeddings + BUCKET, gpus)
    early = 4 * (model.parameters - model.embeddings) - BUCKET
    before = all_reduce(early, gpus, messages=math.ceil(early / BUCKET))
    after = gather(2 * model.hidden, gpus)
    after += gather(4 * (model.parameters - model.hidden), gpus) if way == "zero1" else 0.0
    return Step(work, before + tail + after, max(0.0, before - BACKWARD * last) + tail + after)


def state(model: Model, gpus: int, way: str) -> float:
    """Return bytes a GPU: weights and gradients, Muon's momentum (always shared out), two moments of what is left."""
    weights, momentum, moments = 8 * model.parameters, 4 * model.hidden, 8 * (model.parameters - model.hidden)
    shared = {"ddp": momentum, "zero1": momentum + moments, "fsdp": weights + momentum + moments}[way]
    if way == "fsdp" and ROWS / gpus > AT_A_TIME:  # gradients are whole until those of the last rows are sent
        shared -= 4 * model.parameters
    return weights + momentum + moments - shared + shared / gpus


def table(model: Model) -> str:
    """Return a row a count of GPUs."""
    lines = [
        "| GPUs | rows a GPU | work | ddp: messages | waited for | tokens/s | of ideal | hours | dollars | state a GPU "
        "| zero1: waited for | state | fsdp: waited for | state |",
        "|---:|" + "---:|" * 13,
    ]
    alone = ROWS * LENGTH / step(model, 1, "ddp").seconds
    for gpus in COUNTS:
        ddp, zero1, fsdp = (step(model, gpus, way) for way in ("ddp", "zero1", "fsdp"))
        kept = [f"{state(model, gpus, way) / 1e9:.2f} GB" for way in ("ddp", "zero1", "fsdp")]
        speed = ROWS * LENGTH / ddp.seconds
        hours = TOKENS / speed / 3600
        lines.append(
            f"| {gpus:,} | {ROWS / gpus:,.0f} | {ddp.work * 1e3:,.1f} ms | {ddp.messages * 1e3:,.1f} ms "
            f"| {ddp.waited * 1e3:,.1f} ms | {speed:,.0f} | {speed / alone / gpus:.0%} | {hours:,.2f} "
            f"| {hours * gpus * DOLLARS:,.0f} | {kept[0]} | {zero1.waited * 1e3:,.1f} ms | {kept[1]} "
            f"| {fsdp.waited * 1e3:,.1f} ms | {kept[2]} |"
        )
    return "\n".join(lines)


def section(size: str) -> str:
    """Return what there is to say of a size."""
    model = model_of(size)
    millions = [f"{count / 1e6:,.0f}" for count in (model.parameters, model.hidden, model.embeddings)]
    return f"""## {size}

{millions[0]} million parameters, {millions[1]} million of them in Muon's matrices, {millions[2]} million in the
embeddings of words; {model.flops / 1e15:,.1f} PFLOP a step and {model.muon_flops / 1e15:,.3f} for Muon. Gradients are
{4 * model.parameters / 1e6:,.0f} MB. A checkpoint is {SAVED * model.parameters / 1e9:.1f} GB at most, written in \
{SAVED * model.parameters / DISK:.1f} s by one node and {SAVED * model.parameters / DISK / 128:.2f} s by 128.

{table(model)}
"""


def page() -> str:
    """Return the whole page."""
    speed = ROWS * LENGTH / step(model_of("base"), 1, "ddp").seconds
    sections = "\n".join(map(section, SIZES))
    return f"""# What a run would cost on 1 to 1,024 GPUs

Made by `benchmarks/scale.py`: a model of the cost, not a measurement. No GPU was at hand. Measured are bytes, the order
of messages and work (with gloo, on CPUs), and speed on CPUs; all that says **assumed** below was not.

## Assumptions

| assumption | value | where it comes from |
|---|---|---|
{chr(10).join(f"| {name} | {value} | {source} |" for name, value, source in ASSUMED)}

Tokens/s, hours and dollars are those of ddp. "State" is weights, gradients and moments of recipe fast; what a step
keeps for its backward pass comes on top.

{sections}
## What it says

- Within a node, messages are next to nothing. Between nodes most of ddp's are hidden while a GPU has some rows to work
  on; what is waited for is what comes last: the gradients of the embeddings and Muon's updates. With {ROWS:,} rows a
  step that is most of a step on 1,024 GPUs: more rows a step, not more GPUs, is then the way.
- zero1 saves the moments of what Muon does not train (of recipes with AdamW alone, all moments) and waits for the
  weights that others moved. fsdp saves weights too. State of these sizes fits any GPU: both are for models, or rows a
  GPU, for which it does not.
- Data are no limit: {speed * TOKEN_BYTES / 1e6:.2f} MB/s a GPU at most; nor are checkpoints, which are written beside
  the steps.
- The share of its peak that a GPU reaches is the assumption that matters most: hours and dollars are in inverse
  proportion to it up to where messages decide. `benchmarks/gpu.py` measures it on the first card there is.
"""


if __name__ == "__main__":
    print(page(), end="")
