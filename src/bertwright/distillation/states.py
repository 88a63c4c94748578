"""Turns states of a student and its teacher over the same rows into losses by name: hidden, relations, attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from bertwright.distillation.config import DistillConfig, LossWeights
from bertwright.distillation.losses import attention_error, hidden_error, relation_divergence
from bertwright.distillation.traces import Trace, attention_scores, common_heads, queries_keys_values, side_by_side
from bertwright.errors import ConfigError
from bertwright.model.config import ModelConfig
from bertwright.model.encoder import Encoder
from bertwright.model.layers.linear import Linear

KINDS = ("queries", "keys", "values")
"""Whose relations are compared: each with its own kind."""


@dataclass(frozen=True)
class StateLosses:
    """The losses that compare states.

    matched  the teacher's block, from 1, that each of the student's blocks stands for
    heads    relation heads, of both
    block    block of the teacher, from 1, whose relations the student's last block imitates
    """

    weights: LossWeights
    matched: tuple[int, ...]
    heads: int
    block: int

    @classmethod
    def of(cls, config: DistillConfig, student: ModelConfig, teacher: ModelConfig, matched: tuple[int, ...]) -> Self:
        """Return the losses that settings ask for; raises ConfigError where they do not fit the two models."""
        widths = student.hidden_size, teacher.hidden_size
        heads, block = config.relation_heads or common_heads(*widths), config.relation_layer or teacher.layers
        if any(width % heads for width in widths):
            raise ConfigError(
                f"distill.relation_heads: {heads} does not divide the widths {widths[0]} and {widths[1]}; give "
                f"{common_heads(*widths)}, or another number that does"
            )
        if block > teacher.layers:
            raise ConfigError(
                f"distill.relation_layer: the teacher has {teacher.layers} blocks, not {block}; give one it has"
            )
        if config.weights.attention and student.heads != teacher.heads:
            raise ConfigError(
                f"distill.weights.attention: the student has {student.heads} heads and the teacher "
                f"{teacher.heads}, whose scores cannot be compared; give --heads {teacher.heads}, or relations instead"
            )
        return cls(config.weights, matched, heads, block)

    def parts(
        self, student: Encoder, teacher: Encoder, states: tuple[Trace, Trace], projections: nn.ModuleList, mask: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses asked for, by name, not weighted; `states` are those of student and teacher."""
        found, taught = states
        parts: dict[str, Tensor] = {}
        if self.weights.hidden:
            pairs = zip(projected(found.hidden, projections), self._of_teacher(taught), strict=True)
            parts["hidden"] = torch.stack([hidden_error(*pair, mask) for pair in pairs]).mean()
        if self.weights.relations:
            parts["relations"] = self._relations(student, teacher, states, mask)
        if self.weights.attention:
            parts["attention"] = self._attention(student, teacher, states, mask)
        return parts

    def total(self, parts: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of these losses."""
        return torch.stack([getattr(self.weights, name) * value for name, value in parts.items()]).sum()

    def _of_teacher(self, taught: Trace) -> list[Tensor]:
        return [taught.hidden[layer] for layer in (0, *self.matched)]

    def _relations(self, student: Encoder, teacher: Encoder, states: tuple[Trace, Trace], mask: Tensor) -> Tensor:
        found = queries_keys_values(student, states[0], student.config.layers)
        with torch.no_grad():
            taught = queries_keys_values(teacher, states[1], self.block)
        divergences = [
            relation_divergence(side_by_side(one), side_by_side(other), mask, heads=self.heads)
            for one, other in zip(found, taught, strict=True)
        ]
        return torch.stack(divergences).sum() / len(KINDS)

    def _attention(self, student: Encoder, teacher: Encoder, states: tuple[Trace, Trace], mask: Tensor) -> Tensor:
        errors = []
        for number, of_teacher in enumerate(self.matched, start=1):
            found = attention_scores(*queries_keys_values(student, states[0], number)[:2])
            with torch.no_grad():
                taught = attention_scores(*queries_keys_values(teacher, states[1], of_teacher)[:2])
            errors.append(attention_error(found, taught, mask))
        return torch.stack(errors).mean()


def new_projections(student: ModelConfig, teacher: ModelConfig, weights: LossWeights) -> nn.ModuleList:
    """Return what turns states of the student's width into the teacher's, a layer each; empty where not needed."""
    if not weights.hidden or student.hidden_size == teacher.hidden_size:
        return nn.ModuleList()
    return nn.ModuleList(Linear(student.hidden_size, teacher.hidden_size) for _ in range(student.layers + 1))


def projected(hidden: Sequence[Tensor], projections: nn.ModuleList) -> Sequence[Tensor]:
    """Return the student's states in the teacher's width."""
    if not projections:
        return hidden
    return [layer(one) for layer, one in zip(projections, hidden, strict=True)]
