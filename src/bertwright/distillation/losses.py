"""Turns what a student and a teacher give for the same rows into numbers: how far their answers and states differ.

All are means, in float32, differentiable by what the student gives. B rows, S tokens, M positions asked about, K
outputs, H units, A heads; a mask is True where something counts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def class_divergence(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Return T^2 KL(teacher, student) [...], in nats, of logits [..., K] divided by T (Hinton et al., 2015, section 2).

    The square keeps gradients of one size whatever T is.

    >>> bool(class_divergence(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]), temperature=2.0).abs() < 1e-6)
    True
    """
    p = functional.log_softmax(teacher.float() / temperature, -1)
    q = functional.log_softmax(student.float() / temperature, -1)
    return (p.exp() * (p - q)).sum(-1) * temperature**2


def label_divergence(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Return the same [...] for K labels that are decided one by one, the mean over them, from logits [..., K]."""
    student, teacher = student.float() / temperature, teacher.float() / temperature
    p = torch.sigmoid(teacher)
    yes, no = functional.logsigmoid(teacher), functional.logsigmoid(-teacher)
    divergence = p * (yes - functional.logsigmoid(student)) + (1 - p) * (no - functional.logsigmoid(-student))
    return divergence.mean(-1) * temperature**2


def score_error(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Return the squared difference [...] of scores [..., 1]; they have no temperature."""
    return (student.float() - teacher.float()).square().squeeze(-1)


def hidden_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error of hidden states [B, S, H] over tokens and units (TinyBERT, equation 8)."""
    errors = (student.float() - teacher.float()).square().mean(-1)
    return (errors * mask).sum() / mask.sum()


def relation_divergence(student: Tensor, teacher: Tensor, mask: Tensor, *, heads: int) -> Tensor:
    """Return KL(teacher, student), in nats, of the relations among tokens of vectors [B, S, H] of any two widths.

    Vectors are cut into `heads` of d units; the relation of a head is softmax(x x' / sqrt(d)) over the tokens of a row
    (Wang et al., 2021, MiniLMv2, equations 7 to 9). The mean over heads and tokens.
    """
    p, q = (log_relations(one, mask, heads=heads) for one in (teacher, student))
    divergence = (p.exp() * (p - q)).masked_fill(~mask[:, None, None], 0.0).sum(-1)
    return (divergence * mask[:, None]).sum() / (heads * mask.sum())


def log_relations(vectors: Tensor, mask: Tensor, *, heads: int) -> Tensor:
    """Return log probabilities [B, A, S, S] of the relations of `vectors` [B, S, H]; those of padding are -1e30."""
    rows, length, width = vectors.shape
    parts = vectors.view(rows, length, heads, width // heads).transpose(1, 2)
    scores = (parts @ parts.transpose(-1, -2)).float() / math.sqrt(width // heads)
    return functional.log_softmax(scores.masked_fill(~mask[:, None, None], -1e30), -1)


def attention_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error of attention scores [B, A, S, S], not normalised (TinyBERT, equation 7)."""
    counts = (mask[:, :, None] & mask[:, None, :])[:, None]
    errors = (student.float() - teacher.float()).square() * counts
    return errors.sum() / (counts.sum() * student.shape[1])
