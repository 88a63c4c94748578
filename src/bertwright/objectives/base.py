"""What an objective is: the rows it needs, what it hides of them, and the loss of what the model predicts there.

    Batch -> corrupt -> MaskedBatch -> (the model) -> Scores -> loss -> Loss

`corrupt` and `loss` stand side by side in one file an objective. Both are pure functions of tensors; every random
number comes from the generator handed in. No objective owns, or knows, the model.

An objective may ask another model first: `new_auxiliary` makes it, the training step has it score `auxiliary_batch` and
hands both to `corrupt`; `loss` gets its scores again, with gradients. Its parameters are trained with the model's
and saved in checkpoints, and are no part of the model that is written at the end. One that `asks_model` has the model
itself score `auxiliary_batch`. Either way the batch is a function of the weights too. The same holds for a head that
reads hidden states of the model: `new_head` makes it, and the model returns what it makes of them in `Scores.boundary`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from bertwright.config import Section
from bertwright.objectives.config import ObjectiveConfig
from bertwright.types import Batch, Loss, MaskedBatch, Scores

Rows = Literal["single", "pairs", "ordered_pairs"]
"""One segment a row; or two, of which the second follows or comes from another document; or two that follow one another
in the text, in this order or swapped."""
FirstScores = tuple[MaskedBatch, Scores]
"""What the auxiliary module has scored, and its scores."""
EncoderOf = Callable[..., nn.Module]
"""Returns an encoder of the run's architecture, given fields laid over the run's shape, such as `hidden_size=64`, and
perhaps `width`: hidden size, heads and inner layer as a share of the run's."""
FlopsOf = Callable[..., int]
"""Returns the operations of training an encoder of the run's shape on a batch, given `masked`, the slots of a row, and
perhaps `outputs`, the classes scored there in place of the vocabulary, and fields laid over the run's shape."""


class Objective(Protocol):
    """What the training step needs of an objective or a task; it never learns which one it is.

    Each has its own kind of batch, of example and of scores, which pass through the step unseen.
    """

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether the number of slots of an example changes along a run."""
        ...

    def corrupt(self, batch: Any, generator: torch.Generator, progress: float) -> Any:
        """Hide what is to be predicted."""
        ...

    def loss(self, scores: Any, example: Any) -> Loss:
        """Return the loss of the scores, and what it is made of."""
        ...


@dataclass(frozen=True)
class Vocabulary:
    """What objectives know of a tokenizer and its corpus.

    size     how many tokens there are
    mask_id  which one is [MASK]
    similar  returns [V, K] int64, on the device of the masks: K tokens with the neighbours that each token has, -1
             for a token that was not counted. None where no corpus is at hand
    """

    size: int
    mask_id: int
    similar: Callable[[], Tensor] | None = None


class PretrainingObjective(ABC):
    """What pre-training needs of an objective, be it one or a sum of several."""

    @property
    @abstractmethod
    def rows(self) -> Rows:
        """The rows it is trained on."""

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether M changes along a run."""
        return False

    def masked_slots(self, length: int, progress: float = 1.0) -> int:
        """Return M, the slots of a row of `length` tokens at `progress` in [0, 1] of a run."""
        return 0

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the modules of the model that its auxiliary module has too."""
        return ()

    @property
    def asks_model(self) -> bool:
        """Whether the model itself scores `auxiliary_batch`; there is no auxiliary module then."""
        return False

    def flops(self, flops_of: FlopsOf, *, length: int, progress: float) -> int:
        """Return the useful operations of training on a batch of rows of `length` tokens."""
        return flops_of(masked=self.masked_slots(length, progress))

    def describe(self, progress: float = 1.0) -> str:
        """Return which tokens are masked at `progress` of a run, and how; nothing of objectives that mask none."""
        return ""

    @abstractmethod
    def corrupt(
        self, batch: Batch, generator: torch.Generator, progress: float = 1.0, first: FirstScores | None = None
    ) -> MaskedBatch:
        """Return what the model sees and what it is to predict at `progress` of a run, drawn from `generator` alone.

        `first` is what the auxiliary module has scored, of objectives that have one; None where there is no module, as
        where a batch is only shown.
        """

    @abstractmethod
    def loss(self, scores: Scores, example: MaskedBatch, beside: Scores | None = None) -> Loss:
        """Return the loss; it can be compiled as one graph with the model.

        `beside` are the scores of the auxiliary module where it reads `example.first_ids`.
        """

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return held-out figures beside loss and accuracy of each part, from their sums (see `flat_sums`)."""
        return {}

    def new_auxiliary(self, encoder_of: EncoderOf) -> nn.Module | None:
        """Return a new auxiliary module, drawn from torch's default generator, or None; see the top of this file."""
        return None

    def new_head(self, width: int, output_width: int) -> nn.Module | None:
        """Return a new head for hidden states of this width, H, at `MaskedBatch.boundaries`, or None.

        Called with these [B, 2 K, H] and the batch, it returns vectors [B, M, E], which the model scores as words; E is
        `output_width`.
        """
        return None

    def auxiliary_batch(self, batch: Batch, generator: torch.Generator, progress: float) -> MaskedBatch | None:
        """Return what is scored before `corrupt`, None where nothing is; called where something can score it alone."""
        raise NotImplementedError


class NamedObjective(PretrainingObjective):
    """One that `objective.names` can name: a class of its own, in a file of its own."""

    needs: ClassVar[Rows] = "single"
    """The rows it needs; "single" needs nothing: an objective about tokens goes with rows of any kind."""
    hides: ClassVar[bool] = True
    """Whether it hides tokens; of several objectives at once, one alone may."""
    finds_replaced: ClassVar[bool] = False
    """Whether the model says which tokens were replaced instead of predicting masked ones, which its auxiliary module
    does: held-out text is then evaluated by the objective itself."""
    shares: ClassVar[tuple[str, ...]] = ()
    """Names of the modules of the model that the auxiliary module has too, instead of its own."""
    options: ClassVar[type[Section]] = Section
    """What `objective.options.NAME` may hold; usually nothing."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: ObjectiveConfig, vocabulary: Vocabulary, options: Any) -> Self:
        """Return the objective that settings describe; `options` are its own, checked."""

    @property
    def rows(self) -> Rows:
        """The rows it needs."""
        return self.needs

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the modules of the model that its auxiliary module has too."""
        return self.shares


def unhidden(batch: Batch) -> MaskedBatch:
    """Return a batch as it is, nothing hidden and no token to predict: what an objective about rows sees."""
    none = batch.input_ids[:, :0]
    return MaskedBatch(
        input_ids=batch.input_ids,
        token_type_ids=batch.token_type_ids,
        attention_mask=batch.attention_mask,
        masked_positions=none,
        masked_labels=none,
        masked_weights=none.float(),
        next_label=batch.next_label,
        documents=batch.documents,
        layout=batch.layout,
    )
