"""Holds what a run may set of its distillation: how much each loss weighs, and the shape of the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from bertwright.config import Section, compose


class StudentConfig(Section):
    """The shape of the student, where it is made from the teacher."""

    layers: int | tuple[int, ...] | None = Field(default=None)
    """Blocks: so many, spread evenly over the teacher's, or those taken, counted from 1, such as 2,4,6. As many as the
    teacher has where not given."""
    width: int | None = Field(default=None, ge=1)
    """Units of the hidden states; the teacher's where not given."""
    heads: int | None = Field(default=None, ge=1)
    """Attention heads; with as many units each as the teacher's where not given."""
    start: Literal["projected", "noise"] = "projected"
    """Weights of a student narrower than the teacher: projected (each matrix gives, of the student's states, what the
    teacher's gives of its own, by least squares on real rows), or noise. A student as wide as the teacher has copies of
    its blocks."""

    @model_validator(mode="after")
    def _names_blocks(self) -> StudentConfig:
        layers = self.layers
        if isinstance(layers, int) and layers < 1:
            raise ValueError("layers must be 1 or more; give --layers 4, or the blocks to take: --layers 2,4,6")
        if isinstance(layers, tuple) and (not layers or list(layers) != sorted(set(layers)) or layers[0] < 1):
            raise ValueError("layers must name blocks of the teacher in order, counted from 1, such as 2,4,6")
        return self


class LossWeights(Section):
    """How much each loss weighs; 0 leaves it out."""

    logits: float = Field(default=1.0, ge=0)
    """The teacher's answers: Kullback-Leibler divergence at `temperature`, times its square (Hinton et al., 2015)."""
    labels: float = Field(default=0.5, ge=0)
    """The loss of the task itself, on rows that have labels."""
    hidden: float = Field(default=0.0, ge=0)
    """Hidden states after each block, and the embeddings: mean squared error, through a matrix that is learned where
    the student is narrower (Jiao et al., 2020, TinyBERT)."""
    relations: float = Field(default=0.0, ge=0)
    """Relations of queries with queries, keys with keys and values with values in one block of each (Wang et al., 2021,
    MiniLMv2)."""
    attention: float = Field(default=0.0, ge=0)
    """Attention scores of each block: mean squared error (TinyBERT); student and teacher need as many heads."""

    @property
    def reads_states(self) -> bool:
        """Whether a loss compares more than answers, so that the teacher reads every batch."""
        return bool(self.hidden or self.relations or self.attention)


class DistillConfig(Section):
    """Everything of a distillation that the run it stands in does not have."""

    weights: LossWeights = LossWeights()
    temperature: float = Field(default=2.0, gt=0)
    """What logits are divided by before they become probabilities: larger shows more of the teacher's doubts."""
    relation_heads: int | None = Field(default=None, ge=1)
    """Heads that relations are cut into, on both sides; the most, up to 48, that divide both widths."""
    relation_layer: int | None = Field(default=None, ge=1)
    """Block of the teacher whose relations are taken, counted from 1; its last. The student's is always its last."""
    student: StudentConfig = StudentConfig()


class _Named(Section):
    """The settings under their name, for messages about them."""

    distill: DistillConfig = DistillConfig()


def compose_distillation(*layers: Mapping[str, Any]) -> DistillConfig:
    """Return the settings of a distillation, later ones winning; raises ConfigError as `compose` does."""
    return compose(_Named, *({"distill": layer} for layer in layers)).distill


PRETRAIN_WEIGHTS: dict[str, Any] = {"logits": 1.0, "labels": 0.0, "hidden": 1.0, "relations": 1.0}
"""The usual weights where a student is pre-trained."""
