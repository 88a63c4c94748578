"""Compiled code computes what uncompiled code does, dropout masks and their gradients included."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.decomposition import decompositions

from bertwright.device import (
    compiled_where_trained,
    float32_products,
    on_device,
    pick_device,
    try_compiled,
    try_compiled_blocks,
)
from bertwright.errors import ConfigError
from bertwright.model.bert import Block
from bertwright.model.build import build_encoder, named_size
from bertwright.model.layers.attention_mask import build_mask

pytestmark = [  # what torch's compiler warns of in its own code
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
SHAPE = named_size("tiny", vocab_size=64, hidden_size=16, heads=2, intermediate_size=32, dropout=0.3)


def two_blocks() -> nn.ModuleList:
    """Return two blocks that drop units, always the same ones."""
    torch.manual_seed(0)
    return nn.ModuleList(Block(SHAPE) for _ in range(2)).train()


def loss_of(blocks: nn.ModuleList) -> Callable[[Tensor], Tensor]:
    """Return a function of hidden states [B, S, 16]; the last block computes two positions alone."""

    def loss(hidden: Tensor) -> Tensor:
        mask = build_mask(torch.ones(hidden.shape[:2], dtype=torch.bool), None)
        first = blocks[0](hidden, mask)
        positions = torch.tensor([[0, 3]]).expand(len(hidden), -1)
        return (blocks[1](first, mask, positions) ** 3).sum()

    return loss


def gradients(blocks: nn.ModuleList, loss: Callable[[Tensor], Tensor], *, length: int) -> list[Tensor]:
    """Return the loss and the gradient of every weight for rows of a length, and drop the gradients."""
    torch.manual_seed(length)
    value = loss(torch.randn(3, length, 16))
    value.backward()  # type: ignore[no-untyped-call]
    found = [
        value.detach(),
        *(parameter.grad.clone() for parameter in blocks.parameters() if parameter.grad is not None),
    ]
    blocks.zero_grad()
    return found


@pytest.mark.parametrize("whole", [True, False])
def test_dropout_is_the_same_forward_and_backward(whole: bool) -> None:
    """Loss and gradients of compiled code equal the uncompiled ones, whole or by blocks, for rows of two lengths."""
    blocks = two_blocks()
    loss = loss_of(blocks)
    lengths = (8,) if whole else (8, 13)
    plain = [gradients(blocks, loss, length=length) for length in lengths]
    if whole:
        loss, reason = try_compiled(loss, lambda one: one(torch.randn(3, 8, 16)).backward(), drops=True)
    else:
        reason = try_compiled_blocks(blocks, lambda: loss(torch.randn(3, 8, 16)).backward(), drops=True)
    assert reason is None
    blocks.zero_grad()
    for length, expected in zip(lengths, plain, strict=True):
        found = gradients(blocks, loss, length=length)
        assert len(found) == len(expected) > 30
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["bert", "modern"])
def test_blocks_are_compiled_once_for_rows_of_every_length(architecture: str) -> None:
    """Up to the longest there are, where rotary angles are not a part of theirs but all of them."""
    config = named_size("tiny", architecture=architecture, vocab_size=64, hidden_size=16, heads=2, max_positions=32)
    model = build_encoder(config).train()
    counter = CompileCounterWithBackend("aot_eager")
    for block in model.blocks:
        block.compile(dynamic=True, backend=counter)
    counts = []
    for rows, length in ((6, 9), (5, 11), (3, 32), (7, 31)):
        ids = torch.randint(5, 64, (rows, length))
        model.encode(ids, 0 * ids, ids > 0, torch.zeros(rows, 1, dtype=torch.long)).sum().backward()
        counts.append(counter.frame_count)
    assert counts[0] > 0
    assert counts == counts[:1] * 4


def test_blocks_that_do_not_compile_run_as_they_are() -> None:
    """The reason is told, and the model still computes."""
    blocks = two_blocks()
    loss = loss_of(blocks)
    plain = gradients(blocks, loss, length=8)

    def attempt() -> None:
        raise RuntimeError("no compiler\nhere")

    assert try_compiled_blocks(blocks, attempt, drops=True) == "RuntimeError: no compiler"
    for one, other in zip(gradients(blocks, loss, length=8), plain, strict=True):
        assert torch.equal(one, other)


def test_gradients_of_words_are_added_in_one_order() -> None:
    """On two threads, bit for bit: 4,096 places of seven words, whose sums depend on the order they are taken in."""
    torch.manual_seed(0)
    words, places = nn.Embedding(7, 64), torch.randint(7, (32, 128))
    scale = torch.randn(32, 128, 64) * torch.logspace(-3, 3, 128)[:, None]

    def loss(ids: Tensor) -> Tensor:
        return (words(ids) * scale).sum()

    def gradient(one: Callable[[Tensor], Tensor]) -> Tensor:
        words.zero_grad()
        one(places).backward()  # type: ignore[no-untyped-call]
        assert words.weight.grad is not None
        return words.weight.grad.clone()

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        table = dict(decompositions)
        compiled, reason = try_compiled(loss, lambda one: one(places).backward(), drops=False)
        assert reason is None
        assert dict(decompositions) == table  # others who compile in this process find it as it was
        expected = gradient(loss)
        assert all(torch.equal(gradient(compiled), expected) for _ in range(20))
    finally:
        torch.set_num_threads(threads)


def test_bfloat16_is_not_chosen_where_onednn_is_held_to_less() -> None:
    """On any machine: with the instructions, or without."""
    program = """
import torch
from bertwright.device import resolve_precision
print(resolve_precision("auto", torch.device("cpu")))
"""
    surroundings = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=surroundings, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "fp32"


SHARED_STORE = """
import torch
from bertwright.device import try_compiled

torch.manual_seed(0)
words, places, scale = torch.nn.Embedding(7, 64), torch.randint(7, (32, 128)), torch.randn(32, 128, 64)

def gradient(loss):
    words.zero_grad()
    loss(places).backward()
    return words.weight.grad.clone()

def loss(ids):
    return (words(ids) * scale).sum()

compiled, reason = try_compiled(loss, lambda one: one(places).backward(), drops=False)
assert reason is None, reason
assert torch.equal(gradient(compiled), gradient(loss))
"""


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="one processor cannot be two kinds")
def test_machines_of_other_kinds_can_share_the_store_of_code(tmp_path: Path) -> None:
    """Vectors of 8 numbers, then of 16: kept graphs of the first, built for the second, would write past the end."""
    for kind in ("avx2", "avx512"):
        surroundings = {**os.environ, "ATEN_CPU_CAPABILITY": kind, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
        ended = subprocess.run(
            [sys.executable, "-c", SHARED_STORE], env=surroundings, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr[-2000:]


def test_half_a_file_in_the_store_of_code_is_removed_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed compiler leaves one. Files elsewhere are left alone, and other errors end the attempt."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "code"))
    (tmp_path / "code").mkdir()
    torn, other = tmp_path / "code" / "kernel.main.so", tmp_path / "other.so"
    torn.write_bytes(b"")
    other.write_bytes(b"")

    def attempt(compiled: Callable[[Tensor], Tensor]) -> None:
        if torn.exists():
            raise ImportError(f"{torn}: file too short")

    loss, reason = try_compiled(torch.sin, attempt, drops=False)
    assert reason is None
    assert loss is not torch.sin
    assert not torn.exists()

    def fails(compiled: Callable[[Tensor], Tensor]) -> None:
        raise ImportError(f"{other}: file too short")

    loss, reason = try_compiled(torch.sin, fails, drops=False)
    assert loss is torch.sin
    assert reason == f"ImportError: {other}: file too short"[: len("ImportError: ") + 160]
    assert other.exists()


def test_a_device_that_is_chosen_is_used_by_all_within() -> None:
    usual = pick_device()
    with on_device("cpu"):
        assert pick_device() == torch.device("cpu")
        with on_device("auto"):
            assert pick_device() == torch.device("cpu")
    assert pick_device() == usual
    with pytest.raises(ConfigError, match=f"--device cuda:{torch.cuda.device_count() + 7}"):
        on_device(f"cuda:{torch.cuda.device_count() + 7}").__enter__()


def test_products_left_in_float32_run_in_tf32_on_a_gpu_alone_and_not_where_float32_is_wanted() -> None:
    gpu, matmul = torch.device("cuda"), torch.backends.cuda.matmul
    before = matmul.allow_tf32
    for wanted, device, expected in (
        ("auto", gpu, True), ("bf16", gpu, True), ("fp32", gpu, before), ("auto", torch.device("cpu"), before)
    ):  # fmt: skip
        with float32_products(wanted, device):
            assert matmul.allow_tf32 == expected
            torch.get_float32_matmul_precision()  # the compiler asks for it
        assert matmul.allow_tf32 == before


@pytest.mark.parametrize("graphs", [True, False])
def test_a_cuda_graph_is_tried_until_it_is_replayed(graphs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call warms up, the second records, the third replays; what fails there is told as any failure."""
    given: list[dict[str, object]] = []

    def compiler(function: Callable[..., Tensor], **how: object) -> Callable[..., Tensor]:
        given.append(how)
        return function

    monkeypatch.setattr(torch, "compile", compiler)
    calls: list[int] = []

    def attempt(compiled: Callable[[Tensor], Tensor]) -> None:
        calls.append(1)
        compiled(torch.ones(2))
        if len(calls) == 3:
            raise RuntimeError("overwritten by a subsequent run")

    reason = try_compiled(torch.sin, attempt, drops=False, graphs=graphs)[1]
    assert (reason is not None) == graphs
    assert ("triton.cudagraphs" in given[0]["options"]) == graphs  # type: ignore[operator]


def test_code_is_compiled_where_gradients_are_wanted_alone() -> None:
    called = 0

    def function(values: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            nonlocal called
            called += 1
        return (values * values).sum()

    chosen = compiled_where_trained(function)
    values = torch.arange(3.0, requires_grad=True)
    chosen(values).backward()
    assert called == 0
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 2.0, 4.0]
    with torch.no_grad():
        assert chosen(values).item() == 5.0
    assert called == 1
