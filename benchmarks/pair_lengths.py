"""Turns the sentence pairs of a DATA folder into what their lengths alone say of them: a floor for NSP figures.

    python benchmarks/pair_lengths.py --data DATA

A logistic regression sees the number of tokens of A and of B, and simple functions of the two, but no word. It is
fitted on pairs of the training split, as a run draws them, and evaluated on the fixed held-out pairs every run is
evaluated on, and on as many more of them as there are in one pass. What a model reaches above this it has from the
text.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.batches import BatchSource
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.held_out import EVALUATION_ROWS, EVALUATION_SEED

SPECIAL_TOKENS = 3
"""Of a pair: [CLS], and a [SEP] after either segment."""


def pair_lengths(data: Path, split: str, *, rows: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ([N, 2] tokens of A and B, [N] labels) of the first `rows` pairs of a split, at most one pass over it."""
    source = BatchSource(
        Shards.open(data, split),
        special=load_tokenizer(data / "tokenizer").special,
        length=length,
        rows=EVALUATION_ROWS,
        pairs=True,
        seed=seed,
    )
    lengths, labels = [], []
    for t in range(max(1, min(rows, source.rows_per_epoch) // EVALUATION_ROWS)):
        batch = source.draw(t)
        assert batch.next_label is not None
        b = batch.token_type_ids.sum(1)  # with the [SEP] after it
        a = batch.attention_mask.sum(1) - b
        lengths.append(np.stack([a.numpy() - 2, b.numpy() - 1], 1))
        labels.append(batch.next_label.numpy())
    return np.concatenate(lengths), np.concatenate(labels)


def features(lengths: np.ndarray, *, room: int) -> np.ndarray:
    """Return [N, F] simple functions of the lengths of A and B, of which at most `room` tokens fit together."""
    a, b = lengths.T.astype(np.float64)
    total = a + b
    return np.stack(
        [a, b, np.log1p(a), np.log1p(b), np.abs(a - b), np.minimum(a, b), a / (total + 1), total, total >= room], 1
    )


def fitted(x: np.ndarray, y: np.ndarray) -> Pipeline:
    """Return a logistic regression on the features, their squares and their products."""
    model = make_pipeline(
        StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler(), LogisticRegression(max_iter=3000)
    )
    return model.fit(x, y)


def figures(model: Pipeline, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return number of pairs, accuracy, share of the more frequent class and balanced accuracy."""
    predictions = model.predict(x)
    return {
        "pairs": len(y),
        "accuracy": round(float(accuracy_score(y, predictions)), 4),
        "majority": round(float(max(y.mean(), 1 - y.mean())), 4),
        "balanced_accuracy": round(float(balanced_accuracy_score(y, predictions)), 4),
    }


def main() -> None:
    """Print a JSON object: figures of the training pairs, the fixed held-out pairs, and one pass of held-out pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rows", type=int, default=1024, help="fixed held-out pairs")
    parser.add_argument("--train-rows", type=int, default=100_000)
    arguments = parser.parse_args()
    length, room = arguments.length, arguments.length - SPECIAL_TOKENS
    lengths, y = pair_lengths(arguments.data, "train", rows=arguments.train_rows, length=length, seed=0)
    x = features(lengths, room=room)
    model = fitted(x, y)
    content = {"train": figures(model, x, y)}
    for name, rows in (("held-out", arguments.rows), ("held-out, one pass", 10**9)):
        lengths, y = pair_lengths(arguments.data, "valid", rows=rows, length=length, seed=EVALUATION_SEED)
        content[name] = figures(model, features(lengths, room=room), y)
    print(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
