"""Holds what `bertwright tune` may give the settings of fine-tuning: spaces of the settings in finetune_config.py.

What it searches for the head of a task stands with the task (`Task.space`).
"""

from __future__ import annotations

from typing import Any

from bertwright.config import Between, OneOf, Range

SPACE: dict[str, Range] = {
    "optimizer.learning_rate": Between(0.25, 8.0, log=True, times="default"),
    "batches.rows": OneOf((0.5, 1.0, 2.0), times="default"),
    "schedule.epochs": Between(2, 12, log=True, whole=True),
    "transfer.layer_decay": Between(0.7, 1.0),
    "transfer.freeze": OneOf((0.0, 0.34), times="layers"),
    "transfer.dropout": Between(0.0, 0.2),
}
"""What `bertwright tune` searches for tasks with a head, beside that head (`Task.space`)."""
SPACES: dict[str, dict[str, Range]] = {
    "embed": {**SPACE, "embed.temperature": Between(0.02, 0.1, log=True)},
    "translate": {
        "optimizer.learning_rate": Between(0.2, 5.0, log=True, times="default"),
        "batches.rows": OneOf((0.5, 1.0, 2.0), times="default"),
        "schedule.epochs": Between(5, 20, log=True, whole=True),
        "transfer.dropout": Between(0.0, 0.3),
        "translate.smoothing": OneOf((0.0, 0.1, 0.2)),
    },
}
"""What it searches for other tasks."""
TRIED_FIRST: tuple[dict[str, Any], ...] = (
    {"optimizer.learning_rate": 2.0, "schedule.epochs": 5},
    {"schedule.epochs": 6, "batches.rows": 0.5},
    {"optimizer.learning_rate": 4.0, "schedule.epochs": 5},
    {"optimizer.learning_rate": 2.0, "schedule.epochs": 10, "batches.rows": 0.5},
    {"optimizer.learning_rate": 4.0, "schedule.epochs": 10, "transfer.layer_decay": 0.85},
)
"""What it tries after the defaults, from which these differ: small encoders often want more epochs at higher rates.

The first two go one way each; the others go on from these, and are left out where that did not help.
"""
