"""Trains the auxiliary module of an objective beside the model: one objective and one module for the step to work on.

What an auxiliary module is, and who owns what of it, stands in `objectives/base.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from bertwright.model.build import build_encoder
from bertwright.model.config import ModelConfig
from bertwright.model.encoder import Encoder
from bertwright.objectives.base import PretrainingObjective
from bertwright.rng import key_of
from bertwright.types import Batch, Loss, MaskedBatch, Scores


class ModelWithAuxiliary(nn.Module):
    """The model and the auxiliary module as one: for optimizers, checkpoints and averaged weights."""

    def __init__(self, model: nn.Module, auxiliary: nn.Module) -> None:
        """Hold both; the weights are named "model...." and "auxiliary....", as checkpoints have them."""
        super().__init__()
        self.model, self.auxiliary = model, auxiliary

    def forward(self, example: Any) -> Any:
        """Return the scores of the model alone."""
        return self.model(example)


class ModelWithHead(ModelWithAuxiliary):
    """The model, and as auxiliary module a head of the objective that reads its hidden states."""

    def forward(self, example: Any) -> Any:
        """Return the scores of the model and of the head."""
        return self.model(example, self.auxiliary)


def encoder_of(model: nn.Module) -> Encoder:
    """Return the encoder of what is trained: all of it, but for the auxiliary module of an objective."""
    return cast(Encoder, model.model if isinstance(model, ModelWithAuxiliary) else model)


@dataclass(frozen=True)
class ObjectiveWithAuxiliary:
    """An objective and what scores batches for it, its auxiliary module or the model, as the step sees an objective.

    `cast()` is the context forward passes run in. What `corrupt` needs is scored without dropout, so that a
    batch depends on its seed and the weights alone.
    """

    objective: PretrainingObjective
    auxiliary: nn.Module
    cast: Callable[[], AbstractContextManager[Any]]

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether M changes along a run."""
        return self.objective.has_dynamic_slots

    def corrupt(self, batch: Batch, generator: torch.Generator, progress: float = 1.0) -> MaskedBatch:
        """Return what the model sees, after the module has scored what `corrupt` needs."""
        first = self.objective.auxiliary_batch(batch, generator, progress)
        if first is None:
            return self.objective.corrupt(batch, generator, progress)
        return self.objective.corrupt(batch, generator, progress, (first, self._asked(first)))

    def _asked(self, first: MaskedBatch) -> Scores:
        """Return the scores of the module, without dropout and gradients; it stays in the mode it was in."""
        training = self.auxiliary.training
        self.auxiliary.eval()
        with torch.no_grad(), self.cast():
            scores: Scores = self.auxiliary(first)
        self.auxiliary.train(training)
        return scores

    def loss(self, scores: Scores, example: MaskedBatch) -> Loss:
        """Return the loss of the model's scores, and of the module's where it reads `example.first_ids`."""
        if example.first_ids is None:
            return self.objective.loss(scores, example)
        with self.cast():
            beside: Scores = self.auxiliary(replace(example, input_ids=example.first_ids))
        return self.objective.loss(scores, example, beside)

    def held_out_loss(self, model: nn.Module, example: MaskedBatch) -> Loss:
        """Return the loss of a masked batch of held-out text: the module's at the masks, the model's on what it writes.

        What it writes depends on the weights alone: each batch draws from the same seed. For objectives whose model
        finds replaced tokens.
        """
        scores = self._asked(example)
        generator = torch.Generator(example.input_ids.device).manual_seed(key_of("held-out draws"))
        written = self.objective.corrupt(example, generator, 0.0, (example, scores))  # type: ignore[arg-type]
        with self.cast():
            found: Scores = model(written)
        return self.objective.loss(found, written, scores)


def auxiliary_of(objective: PretrainingObjective, model: Encoder, *, seed: int, device: torch.device) -> Encoder | None:
    """Return the auxiliary module of an objective, drawn from the seed of a run; None where it has none.

    It has those modules of the model that the objective shares. It leaves torch's random state as it was: the model
    starts alike with it and without.
    """

    def encoder_of(**fields: Any) -> nn.Module:
        return build_encoder(scaled(model.config, **fields))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of("auxiliary", seed))
        auxiliary = objective.new_auxiliary(encoder_of)
    if auxiliary is None:
        return None
    for name in objective.shared:
        auxiliary.set_submodule(name, model.get_submodule(name))
    return cast(Encoder, auxiliary.to(device))


def scaled(shape: ModelConfig, *, width: float = 1.0, **fields: Any) -> ModelConfig:
    """Return a shape with `fields` laid over it, its hidden size, heads and inner layer `width` times as large.

    Embeddings stay as wide as they are where the architecture has a width for them.

    >>> from bertwright.model.build import named_size
    >>> scaled(named_size("base", vocab_size=99), width=0.25).hidden_size
    192
    """
    values = shape.model_dump()
    if width != 1.0:
        heads = max(1, round(shape.heads * width))
        values["heads"], values["hidden_size"] = heads, heads * max(1, round(shape.hidden_size * width / heads))
        values["intermediate_size"] = max(1, round(shape.intermediate_size * width))
        if "embedding_size" in values:
            values["embedding_size"] = shape.embedding_width
    return type(shape)(**{**values, **fields})


def generator_of(model: nn.Module) -> Encoder | None:
    """Return the auxiliary module of what is trained, which is an encoder; None where it has none."""
    return cast(Encoder, model.auxiliary) if isinstance(model, ModelWithAuxiliary) else None


def head_of(
    objective: PretrainingObjective, shape: ModelConfig, *, seed: int, device: torch.device
) -> nn.Module | None:
    """Return the head of an objective for hidden states of the model, drawn likewise; None where it has none."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of("head", seed))
        head = objective.new_head(shape.hidden_size, shape.embedding_width)
    return None if head is None else head.to(device)
