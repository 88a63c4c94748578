"""Turns labels and predictions into the figures of a task, computed by scikit-learn and scipy.

Those libraries are imported when a figure is asked for: pre-training never waits for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

SMALLER_IS_BETTER = ("loss", "perplexity", "mean_squared_error", "ece")
"""Figures of which a smaller one is better; of all others a larger one is."""
LARGEST_EXPONENT = 700.0
"""The exponential of more is past the largest float."""


def sign_of(metric: str) -> int:
    """Return 1 where a larger figure is better, else -1."""
    return -1 if metric in SMALLER_IS_BETTER else 1


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities [N, K] of logits [N, K]."""
    from scipy.special import softmax as scipy_softmax

    probabilities: np.ndarray = scipy_softmax(logits.astype(np.float64), axis=-1)
    return probabilities


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return logarithms of the probabilities [N, K] of logits [N, K]."""
    from scipy.special import log_softmax

    logarithms: np.ndarray = log_softmax(logits.astype(np.float64), axis=-1)
    return logarithms


def confusion(labels: np.ndarray, predictions: np.ndarray, *, classes: int) -> np.ndarray:
    """Return counts [K, K] of classes [N] against predictions [N]: rows are labels."""
    from sklearn.metrics import confusion_matrix

    counts: np.ndarray = confusion_matrix(labels, predictions, labels=np.arange(classes))
    return counts


def figure_names(figures: Mapping[str, float], *, positive: str | None = None) -> dict[str, str]:
    """Return what people read for each figure that is worth a row, in order.

    `positive` is the class whose F1 the figure `f1` of two classes is. Of several classes `f1` is `f1_macro`, and that
    alone is shown.

    >>> figure_names({"accuracy": 0.9, "f1": 0.8, "f1_macro": 0.7}, positive="spam")
    {'accuracy': 'accuracy', 'f1': 'F1 (positive: spam)', 'f1_macro': 'F1 macro'}
    """
    names = {name: "calibration error" if name == "ece" else name.replace("_", " ") for name in figures}
    if "f1" in names and "f1_macro" in names:
        names |= {"f1": f"F1 (positive: {positive})", "f1_macro": "F1 macro"}
        if positive is None:
            del names["f1"]
    return names


def classification_figures(
    labels: np.ndarray, predictions: np.ndarray, logits: np.ndarray, *, classes: int, positive: int = 1
) -> dict[str, float]:
    """Return accuracy, f1, f1_macro, matthews (Matthews 1975) and loss (nats) of classes [N] and predictions [N].

    `f1` is that of the `positive` one of two classes (the second, as in GLUE), and the mean over classes where there
    are more. A class that is never given counts as zero, and so does a correlation where all is one class.
    """
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    macro = float(f1_score(labels, predictions, labels=np.arange(classes), average="macro", zero_division=0.0))
    binary = classes == 2
    nats = -log_probabilities(logits)[np.arange(len(labels)), labels]
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "f1": float(f1_score(labels, predictions, pos_label=positive, zero_division=0.0)) if binary else macro,
        "f1_macro": macro,
        "matthews": float(matthews_corrcoef(labels, predictions)) if len(np.unique([labels, predictions])) > 1 else 0.0,
        "loss": float(nats.mean()),
    }


def counted_figures(
    labels: np.ndarray, predictions: np.ndarray, *, classes: int, positive: int = 1
) -> dict[str, float]:
    """Return accuracy, f1, f1_macro and matthews as `classification_figures` does, by counting alone: many times over.

    >>> counted_figures(np.array([0, 1, 1]), np.array([0, 1, 0]), classes=2)["f1"]
    0.6666666666666666
    """
    right = np.bincount(labels[labels == predictions], minlength=classes)
    there, given = (np.bincount(one, minlength=classes) for one in (labels, predictions))
    f1 = 2 * right / np.maximum(there + given, 1)
    count, macro = len(labels), float(f1.mean())
    spread = (count**2 - float(given @ given)) * (count**2 - float(there @ there))
    return {
        "accuracy": float(right.sum() / count),
        "f1": float(f1[positive]) if classes == 2 else macro,
        "f1_macro": macro,
        "matthews": float(right.sum() * count - there @ given) / math.sqrt(spread) if spread > 0 else 0.0,
    }


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probability of each label by itself, of logits of any shape."""
    from scipy.special import expit

    probabilities: np.ndarray = expit(logits.astype(np.float64))
    return probabilities


def logit(probabilities: np.ndarray) -> np.ndarray:
    """Return the logits of probabilities, the inverse of `sigmoid`; infinite for 0 and 1."""
    from scipy.special import logit as scipy_logit

    logits: np.ndarray = scipy_logit(probabilities)
    return logits


def multi_label_figures(labels: np.ndarray, predictions: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Return f1_micro, f1_macro, subset_accuracy and loss (nats a label) of labels and predictions, bool [N, K].

    `f1_micro` counts labels of all rows together, `f1_macro` is the mean over labels, `subset_accuracy` the fraction
    of rows all of whose labels are right. A label that is never there, nor predicted, counts as zero.
    """
    from sklearn.metrics import accuracy_score, f1_score

    nats = np.logaddexp(0.0, np.where(labels, -1.0, 1.0) * logits.astype(np.float64))
    return {
        "f1_micro": float(f1_score(labels, predictions, average="micro", zero_division=0.0)),
        "f1_macro": float(f1_score(labels, predictions, average="macro", zero_division=0.0)),
        "subset_accuracy": float(accuracy_score(labels, predictions)),
        "loss": float(nats.mean()),
    }


def figures_by_label(labels: np.ndarray, predictions: np.ndarray) -> list[dict[str, float]]:
    """Return precision, recall, f1, and how often it is there and predicted, of each of K labels, bool [N, K]."""
    from sklearn.metrics import precision_recall_fscore_support

    parts = precision_recall_fscore_support(labels, predictions, average=None, zero_division=0.0)
    names = ("precision", "recall", "f1", "labels", "predictions")
    return [dict(zip(names, map(float, one), strict=True)) for one in zip(*parts, predictions.sum(0), strict=True)]


def regression_figures(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Return pearson and spearman correlations, their mean (as GLUE reports STS-B) and the mean squared error.

    A correlation with predictions that are all the same counts as zero.
    """
    from scipy.stats import pearsonr, spearmanr

    labels, predictions = labels.astype(np.float64), predictions.astype(np.float64)
    constant = bool(np.ptp(labels) == 0 or np.ptp(predictions) == 0)
    pearson = 0.0 if constant else float(pearsonr(labels, predictions).statistic)
    spearman = 0.0 if constant else float(spearmanr(labels, predictions).statistic)
    return {
        "pearson": pearson,
        "spearman": spearman,
        "correlation": (pearson + spearman) / 2,
        "mean_squared_error": float(np.square(labels - predictions).mean()),
    }


def with_perplexity(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures with `mlm_perplexity`, the exponential of `mlm_loss`, where they have that loss (nats).

    >>> with_perplexity({"mlm_loss": 2.0, "mlm_accuracy": 0.5})
    {'mlm_loss': 2.0, 'mlm_perplexity': 7.389056, 'mlm_accuracy': 0.5}
    """
    found: dict[str, float] = {}
    for name, value in figures.items():
        if name != "mlm_perplexity":
            found[name] = value
        if name == "mlm_loss":
            found["mlm_perplexity"] = perplexity(value)
    return found


def perplexity(loss: float) -> float:
    """Return the exponential of a mean loss in nats a token: among how many equally likely tokens a model hesitates."""
    return round(math.exp(min(loss, LARGEST_EXPONENT)), 6)
