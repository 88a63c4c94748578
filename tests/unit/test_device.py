"""Devices and precisions: what is asked for is used, and what is not there is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from bertwright.device import float32_products, on_device, pick_device
from bertwright.errors import ConfigError


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
