"""Compiled code computes what uncompiled code does, dropout masks and their gradients included."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.decomposition import decompositions

from bertwright.compiler import (
    OtherGradientsError,
    compiled_where_trained,
    gradients_of,
    run_alike,
    try_compiled,
    try_compiled_blocks,
)
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

    def backward() -> None:
        torch.manual_seed(8)
        loss(torch.randn(3, 8, 16)).backward()

    if whole:
        loss, reason = try_compiled(loss, lambda one: one(torch.randn(3, 8, 16)).backward(), drops=True)
    else:
        reason = try_compiled_blocks(blocks, backward, drops=True)
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


@pytest.mark.parametrize(
    ("fails", "expected"),
    [(True, "RuntimeError: no compiler"), (False, "OtherGradientsError: its gradients are .* of norm .*")],
)
def test_blocks_that_do_not_compile_or_are_compiled_wrongly_run_as_they_are(fails: bool, expected: str) -> None:
    """The reason is told, and the model still computes. Code that is wrong gives gradients that are half too large."""
    blocks = two_blocks()
    loss = loss_of(blocks)
    plain = gradients(blocks, loss, length=8)
    calls = 0

    def attempt() -> None:
        nonlocal calls
        calls += 1
        if fails and calls > 1:
            raise RuntimeError("no compiler\nhere")
        torch.manual_seed(8)
        (loss(torch.randn(3, 8, 16)) * (1.0 if calls == 1 else 1.5)).backward()  # type: ignore[no-untyped-call]

    reason = try_compiled_blocks(blocks, attempt, drops=True)
    assert reason is not None
    assert re.fullmatch(expected, reason)
    assert calls == 2
    for one, other in zip(gradients(blocks, loss, length=8), plain, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("scale", [1.3, -1.0, 0.0, float("nan"), float("inf")])
def test_other_gradients_are_found(scale: float) -> None:
    """And those that are near are not; nor any, where the uncompiled ones are not finite either."""
    model = nn.Linear(16, 4)

    def backward(factor: float) -> Callable[[], None]:
        return lambda: (model(torch.ones(2, 16)).square().sum() * factor).backward()  # type: ignore[no-untyped-call]

    run_alike(backward(1.1), backward(1.0), model)
    run_alike(backward(scale), None, model)
    run_alike(backward(1.0), backward(float("nan")), model)
    with pytest.raises(OtherGradientsError):
        run_alike(backward(scale), backward(1.0), model)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_gradient_that_compiled_code_leaves_out_is_found() -> None:
    model = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    one, both = ((lambda layers=layers: sum(layer(torch.ones(1, 4)).sum() for layer in layers).backward())
                 for layers in (model[:1], model))  # fmt: skip
    with pytest.raises(OtherGradientsError):
        run_alike(one, both, model)
    with pytest.raises(OtherGradientsError):
        run_alike(both, one, model)


def test_compiled_rotations_have_the_gradients_of_uncompiled_ones() -> None:
    """In bfloat16, of keys whose gradients are transposed blocks: some C++ compilers read the stack there.

    With GCC 12.2 on a processor of Intel's with AVX512 these gradients were wrong.
    """
    config = named_size("mini", architecture="modern", vocab_size=64, layers=2, dropout=0.0, attention_dropout=0.0)
    torch.manual_seed(0)
    model = build_encoder(config).train()
    ids = torch.randint(5, 64, (8, 128))
    at = torch.arange(39).expand(8, -1)

    def loss(blocks: nn.ModuleList) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            mask, rotation = build_mask(torch.ones(8, 128, dtype=torch.bool), None), model.get_buffer("global_rotation")
            hidden = model.embeddings(ids)
            for block, place in zip(blocks, (None, at), strict=True):
                hidden = block(hidden, mask, rotation[:, :128], place)
        return hidden.float().square().sum()

    plain = gradients_of(lambda: loss(model.blocks).backward(), model.blocks)  # type: ignore[no-untyped-call]
    compiled, reason = try_compiled(loss, lambda one: one(model.blocks).backward(), drops=False)
    assert reason is None
    found = gradients_of(lambda: compiled(model.blocks).backward(), model.blocks)  # type: ignore[no-untyped-call]
    for name, expected in plain.items():
        assert float((found[name] - expected).norm()) < 0.05 * float(expected.norm()), name


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


SHARED_STORE = """
import torch
from bertwright.compiler import try_compiled

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
