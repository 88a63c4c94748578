"""Turns a teacher into the student that a run begins with: its shape, and weights copied, projected or drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bertwright.distillation.config import StudentConfig
from bertwright.distillation.projection import can_be_projected, project_encoder
from bertwright.distillation.traces import matched_layers
from bertwright.errors import ConfigError
from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import build_encoder
from bertwright.model.config import ModelConfig, ModernConfig
from bertwright.model.encoder import Encoder
from bertwright.types import TokenRows


def student_shape(wanted: StudentConfig, teacher: ModelConfig) -> tuple[ModelConfig, tuple[int, ...]]:
    """Return the shape of the student, and the teacher's block, from 1, that each of its blocks stands for.

    Raises ConfigError where the teacher has no such blocks, or the width does not divide into heads.
    """
    layers, most = wanted.layers or teacher.layers, teacher.layers
    taken = layers if isinstance(layers, tuple) else matched_layers(min(layers, most), most)
    if taken[-1] > most or (isinstance(layers, int) and layers > most):
        raise ConfigError(
            f"distill.student.layers: {most} is the number of the teacher's blocks; "
            "give that or fewer, or name blocks it has"
        )
    if isinstance(teacher, ModernConfig) and any(
        teacher.is_global(one - 1) != teacher.is_global(place) for place, one in enumerate(taken)
    ):
        raise ConfigError(
            f"distill.student.layers: blocks {teacher.global_every} apart in the teacher, from the first, see the "
            "whole row, and the student's would stand elsewhere; name blocks so that they match"
        )
    width, units = wanted.width or teacher.hidden_size, teacher.hidden_size // teacher.heads
    if width > teacher.hidden_size:
        raise ConfigError(f"distill.student.width: {width} is more than the teacher's {teacher.hidden_size}; give less")
    heads = wanted.heads or width // units
    odd = isinstance(teacher, ModernConfig) and heads and width // heads % 2
    if not heads or width % heads or odd or (wanted.heads is None and width % units):
        parts = f"{heads} heads" if wanted.heads else f"heads of {units} units"
        raise ConfigError(
            f"distill.student.width: {width} does not divide into {parts}; give a multiple of {units}, or "
            "--heads a number that divides it"
        )
    sizes = {
        "layers": len(taken),
        "hidden_size": width,
        "heads": heads,
        "intermediate_size": max(1, teacher.intermediate_size * width // teacher.hidden_size),
    }
    return type(teacher)(**{**teacher.model_dump(), **sizes}), taken


def is_copied(shape: ModelConfig, teacher: ModelConfig) -> bool:
    """Say whether a student has the teacher's width, so that it can begin with copies of its blocks."""
    return (shape.hidden_size, shape.heads) == (teacher.hidden_size, teacher.heads)


def check_start(wanted: StudentConfig, shape: ModelConfig, teacher: Encoder) -> None:
    """Raise ConfigError where the student cannot begin as settings say."""
    if is_copied(shape, teacher.config) or wanted.start == "noise":
        return
    if not can_be_projected(teacher):
        raise ConfigError(
            "distill.student.start: projected is made for BERT and RoBERTa alone; "
            "give --start noise, or leave --width out"
        )
    units = [one.hidden_size // one.heads for one in (shape, teacher.config)]
    if units[0] != units[1]:
        raise ConfigError(
            f"distill.student.start: the student's heads have {units[0]} units and the teacher's {units[1]}, "
            "so nothing can be projected; leave --heads out, or give --start noise"
        )


def begin_student(
    wanted: StudentConfig, shape: ModelConfig, taken: tuple[int, ...], teacher: Encoder, rows: Sequence[TokenRows]
) -> Encoder:
    """Return the student in evaluation mode, on the CPU, drawn from torch's default generator where not the teacher's.

    `rows` are real rows, on which a projection is measured. Heads that the teacher lacks are lacking here too.
    """
    check_start(wanted, shape, teacher)
    student = build_encoder(shape)
    if is_copied(shape, teacher.config):
        copy_blocks(teacher, student, taken)
    elif wanted.start == "projected":
        assert isinstance(teacher, BertForPreTraining)
        assert isinstance(student, BertForPreTraining)
        project_encoder(teacher, student, taken, rows)
    return student.eval()


@torch.no_grad()
def copy_blocks(teacher: Encoder, student: Encoder, taken: tuple[int, ...]) -> None:
    """Give a student of the teacher's width everything of it, and of its blocks those `taken`, counted from 1."""
    weights = teacher.state_dict()
    for name, tensor in student.state_dict().items():
        room, _, rest = name.partition(".")
        if room == "blocks":
            number, _, rest = rest.partition(".")
            name = f"blocks.{taken[int(number)] - 1}.{rest}"
        if name in weights:
            tensor.copy_(weights[name])
