"""Starts a classifier from few examples by comparing them with one another, before its head is trained at all.

A few texts of each class make many pairs. The vectors that the head will read are drawn together where two texts have
the same class and apart where they have not; then the head is fitted to these vectors at once, by logistic regression.
That is SetFit (Tunstall et al., 2022), with the vectors of the classifier in the place of a sentence encoder's.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.inference.batching import BatchPolicy, vectors_of
from bertwright.inference.scoring import task_forward
from bertwright.log import count_progress, note
from bertwright.model.task_model import FineTuned
from bertwright.rng import key_of, stream
from bertwright.types import LabelledBatch

STEPS = 40
"""Steps of the comparison: of 16 texts all 120 pairs are in each, as often as SetFit compares a pair."""
MOST_ROWS, FEWEST_ROWS = 64, 4
"""Texts of a step; fewer where they have too many tokens, but never fewer than that."""
WARMUP = 0.1
INVERSE_PENALTY = 1.0
"""The C of the logistic regression, that of scikit-learn and SetFit."""


class Cast(Protocol):
    """Begins the autocast in which a model is run."""

    def __call__(self) -> AbstractContextManager[Any]:
        """Return the context."""


class Features(nn.Module):
    """Gives the vectors that the head of a classifier reads."""

    def __init__(self, model: FineTuned) -> None:
        """Share the weights of `model`."""
        super().__init__()
        self.model = model

    def forward(self, batch: LabelledBatch) -> Tensor:
        """Return vectors [B, H] of rows of B texts."""
        vectors: Tensor = self.model.features(batch)[:, 0]
        return vectors


def start_from_pairs(
    model: FineTuned, rows: LabelledRows, *, rate: float, tokens: int, seed: int, device: torch.device, cast: Cast
) -> None:
    """Train the encoder of `model` on pairs of texts and fit its head to them; nothing else of it is drawn from `seed`.

    `rows` are those of the training file, with a class each; `rate` is the learning rate, `tokens` those of a step.
    """
    labels = rows.targets
    most = max(FEWEST_ROWS, min(MOST_ROWS, len(rows), tokens // rows.longest))
    note(f"few examples: {STEPS} steps that compare {most} of {len(rows):,} texts with one another come first")
    features, trained = Features(model).to(device), [one for one in model.encoder.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01)
    torch.manual_seed(key_of("few-shot", seed))
    features.train()
    with count_progress("steps", total=STEPS) as done:
        for step in range(STEPS):
            fraction = step / STEPS
            optimizer.param_groups[0]["lr"] = rate * min(
                1.0, (fraction + 1 / STEPS) / WARMUP, (1 - fraction) / (1 - WARMUP)
            )
            places = texts_of_step(labels, most, random=stream("few-shot", seed, step))
            with cast():
                vectors = features(rows.batch(places).to(device))
            loss = pair_loss(vectors.float(), torch.from_numpy(labels[places]).to(device))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            done(1)
    fit_head(model, features, rows, device=device)


def texts_of_step(labels: np.ndarray, most: int, *, random: np.random.Generator) -> np.ndarray:
    """Return the places of up to `most` texts, of each class about as many, in a random order."""
    order = random.permutation(len(labels))
    turn = np.zeros(len(labels), dtype=np.int64)
    for one in np.unique(labels):
        of_class = order[labels[order] == one]
        turn[of_class] = np.arange(len(of_class))
    chosen: np.ndarray = order[np.argsort(turn[order], kind="stable")][:most]
    return chosen


def pair_loss(vectors: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared error of the cosines of all pairs of vectors [B, H]: 1 in a class, 0 between classes.

    Both kinds count alike, however many pairs each has, as SetFit draws them.
    """
    near = functional.normalize(vectors, dim=-1)
    cosines, alike = near @ near.T, labels[:, None] == labels[None, :]
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    kinds = [(alike & others, (cosines - 1).square()), (~alike, cosines.square())]
    means = [errors[pairs].mean() for pairs, errors in kinds if bool(pairs.any())]
    return torch.stack(means).mean()


def fit_head(model: FineTuned, features: Features, rows: LabelledRows, *, device: torch.device) -> None:
    """Fit the head of a classifier to the vectors of its training texts, by logistic regression."""
    from sklearn.linear_model import LogisticRegression

    width, training = model.classifier.in_features, features.training
    forward = task_forward(features.eval(), device=device)
    vectors = vectors_of(forward, rows, width=width, policy=BatchPolicy(tokens=2048))
    features.train(training)
    found = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000).fit(vectors.astype(np.float64), rows.targets)
    weights, biases = found.coef_, found.intercept_
    if len(weights) == 1:  # of two classes: the logit of the second against the first
        weights, biases = np.concatenate([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    with torch.no_grad():
        model.classifier.weight[found.classes_] = torch.from_numpy(weights).to(model.classifier.weight)
        model.classifier.bias[found.classes_] = torch.from_numpy(biases).to(model.classifier.bias)
