"""Turns hidden states into a map of words, layer by layer, and into the words that are nearest in it.

The map is of the words of some texts: the two directions in which their states differ most (principal components).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bertwright.inspection.forward import Look

NEAREST = 4
"""Words that are named as the nearest."""
Points = list[list[list[float]]]
"""For each layer and each token two coordinates."""


@dataclass(frozen=True)
class StatesMap:
    """The states of N words of some texts.

    states  [L + 1, N, H] float32
    centre  [L + 1, 1, H]
    axes    [L + 1, H, 2]  so that coordinates are at most 1
    owners  [N] int64  the text each word is of
    places  [N] int64  its position there
    """

    states: Tensor
    centre: Tensor
    axes: Tensor
    owners: Tensor
    places: Tensor

    @classmethod
    def of(cls, looks: Sequence[Look], specials: Sequence[Tensor]) -> StatesMap:
        """Return the map of texts of one row each; `specials` say which of their tokens are left out."""
        kept = [~special for special in specials]
        states = torch.cat(
            [torch.stack(one.hidden)[:, 0].float().cpu()[:, mask] for one, mask in zip(looks, kept, strict=True)], 1
        )
        owners = torch.cat([torch.full((int(mask.sum()),), number) for number, mask in enumerate(kept)])
        places = torch.cat([torch.nonzero(mask).flatten() for mask in kept])
        centre = states.mean(1, keepdim=True)
        directions = torch.linalg.svd(states - centre, full_matrices=False).Vh[:, :2].transpose(1, 2)
        if directions.shape[-1] < 2:
            directions = functional.pad(directions, (0, 2 - directions.shape[-1]))
        signs = torch.where(directions.sum(1, keepdim=True) < 0, -1.0, 1.0)  # one of two mirror images, always the same
        size = ((states - centre) @ directions).abs().amax((1, 2), keepdim=True).clamp(min=1e-9)
        return cls(states, centre, directions * signs / size, owners, places)

    def points(self) -> Points:
        """Return the coordinates of the words of the map."""
        return _rounded((self.states - self.centre) @ self.axes)

    def placed(self, found: Look) -> Points:
        """Return the coordinates of the tokens of a row."""
        return _rounded((torch.stack(found.hidden)[:, 0].float().cpu() - self.centre) @ self.axes)

    def nearest(self, found: Look, *, own: int | None) -> list[list[list[tuple[int, float]]]]:
        """Return for each layer and token of a row the nearest words of the map, by number, and their cosine.

        `own` is the text of the map that the row is, if it is one: no token is its own neighbour.
        """
        ours = functional.normalize(torch.stack(found.hidden)[:, 0].float().cpu(), dim=-1)
        cosines = ours @ functional.normalize(self.states, dim=-1).transpose(1, 2)
        if own is not None:
            mine = torch.nonzero(self.owners == own).flatten()
            cosines[:, self.places[mine], mine] = -2.0
        values, numbers = cosines.topk(min(NEAREST, cosines.shape[-1] - 1), dim=-1)
        return [
            [
                [(number, round(value, 3)) for number, value in zip(*token, strict=True)]
                for token in zip(layer_numbers, layer_values, strict=True)
            ]
            for layer_numbers, layer_values in zip(numbers.tolist(), values.tolist(), strict=True)
        ]


def _rounded(points: Tensor) -> Points:
    return [[[round(value, 3) for value in point] for point in layer] for layer in points.tolist()]
