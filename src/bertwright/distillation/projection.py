"""Turns a BERT into a narrower and shallower one that computes about the same, without training: by least squares.

States of the teacher are seen in the directions in which they vary most, as many as the student has units (principal
directions, then turned at random, so that all units vary alike and a LayerNorm of the student, which sees their mean
and size, disturbs nothing). Block after block, on real rows, each matrix of the student is the one that gives, of what
the student computes there, what the teacher has at that place: queries, keys and values of the heads that add most to
the residual; the inputs of the inner units that do; and what both add. The errors of one block are thus seen, and
made good, by the next (as in pruning by reconstruction: He et al., 2017; Ashkboos et al., 2024, SliceGPT, turn by
principal directions too).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.model.bert import BertForPreTraining, Block, Embeddings
from bertwright.model.encoder import Encoder
from bertwright.model.layers.attention_mask import AttentionMask, LongRowMask
from bertwright.rng import key_of
from bertwright.types import TokenRows

RIDGE = 1e-3
"""Added to the squares of a unit's values, as a fraction of their mean, so that fits stay small where rows are few."""
TOKENS = 16_384
"""Tokens on which matrices are fitted: ten times the inner units of a student of width 384."""

Mask = AttentionMask | LongRowMask


@dataclass(frozen=True)
class Layer:
    """What a block of the teacher computes of rows, of all tokens one after the other: N of them.

    queries, keys, values  [N, H]    of the heads side by side
    found                  [N, H]    what the heads found
    attended               [N, H]    after attention and its LayerNorm
    inner                  [N, I]    the inner layer before its activation
    output                 [N, H]    what the block hands on
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    found: Tensor
    attended: Tensor
    inner: Tensor
    output: Tensor


@dataclass(frozen=True)
class RealRows:
    """Rows that both models read: batches, and which of their tokens count."""

    batches: Sequence[TokenRows]

    def tokens(self, states: Sequence[Tensor]) -> Tensor:
        """Return [N, ...] of states [B, S, ...] of each batch: those of tokens, padding left out."""
        return torch.cat([one[batch.attention_mask] for one, batch in zip(states, self.batches, strict=True)])


def few_rows(batches: Sequence[TokenRows], tokens: int = TOKENS) -> list[TokenRows]:
    """Return the first batches that have so many tokens together, or all."""
    chosen: list[TokenRows] = []
    while len(chosen) < len(batches) and sum(int(one.attention_mask.sum()) for one in chosen) < tokens:
        chosen.append(batches[len(chosen)])
    return chosen


def can_be_projected(model: Encoder) -> bool:
    """Say whether a model has BERT's blocks and, before them, the sum of a word, a position and a token type."""
    if not isinstance(model, BertForPreTraining) or type(model.embeddings) is not Embeddings:
        return False
    return hasattr(model.embeddings, "types") and not hasattr(model.embeddings, "project")


@torch.no_grad()
def project_encoder(
    teacher: BertForPreTraining, student: BertForPreTraining, taken: tuple[int, ...], batches: Sequence[TokenRows]
) -> None:
    """Give `student` weights by which it computes about what the blocks `taken` (from 1) of `teacher` do.

    Both are in evaluation mode. The pooler is fitted to the teacher's; heads that predict words stay as they were
    drawn, but for their bias.
    """
    rows = RealRows(few_rows(batches))
    masks = [teacher.build_mask(batch.attention_mask, None) for batch in rows.batches]
    hidden = [teacher.embeddings(batch.input_ids, batch.token_type_ids) for batch in rows.batches]
    first = rows.tokens(hidden)
    spread, inputs = _spread(first), {}
    for number in range(1, teacher.config.layers + 1):
        inputs[number] = hidden  # all else that a block computes is computed again: of many layers it is gigabytes
        layer, hidden = _layer(teacher.block(number - 1), hidden, masks, rows)
        if number in taken:
            spread += _spread(layer.attended) + _spread(layer.output)
        else:
            del inputs[number]
    directions = _directions(spread, student.config.hidden_size)
    project_embeddings(teacher, student, directions, first, rows)
    states = [student.embeddings(batch.input_ids, batch.token_type_ids) for batch in rows.batches]
    for place, number in enumerate(taken):
        layer, _ = _layer(teacher.block(number - 1), inputs.pop(number), masks, rows)
        states = _fit_block(teacher.block(number - 1), student.block(place), layer, states, masks, rows, directions)
    if hasattr(teacher, "pooler") and hasattr(student, "pooler"):
        _fit_pooler(teacher, student, hidden, states)
    if hasattr(teacher, "mlm_head"):
        student.mlm_head.bias.copy_(teacher.mlm_head.bias)


def _layer(block: Block, hidden: Sequence[Tensor], masks: Sequence[Mask], rows: RealRows) -> tuple[Layer, list[Tensor]]:
    """Return what a block of the teacher computes of tokens, and the states [B, S, H] it hands on."""
    parts: list[list[Tensor]] = [[] for _ in range(7)]
    for states, mask in zip(hidden, masks, strict=True):
        attention = block.attention
        layers = [attention.query, attention.key, attention.value]
        fused = torch.cat([layer(states) for layer in layers], -1)
        found = attention.attend(fused, mask)
        attended = block.attention_norm(states + attention.output(found))
        inner = block.inner(attended)
        output = block.norm(attended + block.outer(block.activation(inner)))
        for kept, one in zip(parts, (*fused.chunk(3, -1), found, attended, inner, output), strict=True):
            kept.append(one)
    return Layer(*(rows.tokens(one) for one in parts)), parts[-1]


def _spread(states: Tensor) -> Tensor:
    """Return how states [N, H] vary, as their covariance [H, H] in proportion to all of it, in float64."""
    centred = states - states.mean(0)
    covariance: Tensor = (centred.T @ centred).double()
    return covariance / covariance.trace()


def _directions(spread: Tensor, width: int) -> Tensor:
    """Return [H, W]: W directions, at right angles, in which states vary most, turned at random."""
    largest = torch.linalg.eigh(spread).eigenvectors[:, -width:]
    generator = torch.Generator().manual_seed(key_of("directions", width))
    turn, _ = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    directions: Tensor = (largest @ turn).float()
    return directions


def project_embeddings(
    teacher: BertForPreTraining, student: BertForPreTraining, directions: Tensor, first: Tensor, rows: RealRows
) -> None:
    """Give the student the teacher's embeddings in fewer directions; `first` [N, H] are the teacher's of real tokens.

    The teacher's LayerNorm subtracts the mean of a vector, divides it by its size and scales each unit: the mean and
    the scales go into the tables, the size is left to the student's LayerNorm, and what is added at the end to the
    token types, which every token has.
    """
    norm = teacher.embeddings.norm
    for ours, theirs in (
        (student.embeddings.words, teacher.embeddings.words),
        (student.embeddings.positions, teacher.embeddings.positions),
        (student.embeddings.types, teacher.embeddings.types),
    ):
        ours.weight.copy_((theirs.weight - theirs.weight.mean(1, keepdim=True)) * norm.weight @ directions)
    summed = rows.tokens([_summed(teacher, batch) for batch in rows.batches])
    size = float(summed.std(1, correction=0).mean())
    student.embeddings.types.weight.add_(size * (norm.bias - first.mean(0)) @ directions)
    raw = rows.tokens([_summed(student, batch) for batch in rows.batches])
    _fit_norm(student.embeddings.norm, raw, (first - first.mean(0)) @ directions)


def _summed(model: BertForPreTraining, batch: TokenRows) -> Tensor:
    """Return the embeddings of rows [B, S, H] before they are normalised."""
    parts, length = model.embeddings, batch.input_ids.shape[1]
    types = batch.token_type_ids if parts.reads_types else torch.zeros_like(batch.token_type_ids)
    positions = parts.positions.weight[parts.first : parts.first + length]
    summed: Tensor = parts.words(batch.input_ids) + parts.types(types) + positions
    return summed


def _fit_block(
    theirs: Block,
    ours: Block,
    layer: Layer,
    states: Sequence[Tensor],
    masks: Sequence[Mask],
    rows: RealRows,
    directions: Tensor,
) -> list[Tensor]:
    """Fit a block of the student to one of the teacher; return the states [B, S, W] it hands on."""
    attention, read = ours.attention, rows.tokens(states)
    units = _strongest_heads(theirs, layer, attention.heads)
    parts = (attention.query, attention.key, attention.value)
    matrix, offsets = fit(read, torch.cat([one[:, units] for one in (layer.queries, layer.keys, layer.values)], -1))
    for part, to_part, offset in zip(parts, matrix.chunk(3, -1), offsets.chunk(3), strict=True):
        _set(part, to_part, offset)
    fused = [torch.cat([part(x) for part in parts], -1) for x in states]
    found = [attention.attend(one, mask) for one, mask in zip(fused, masks, strict=True)]
    attended = (layer.attended - layer.attended.mean(0)) @ directions
    _fit_residual(attention.output, ours.attention_norm, read, rows.tokens(found), attended)
    middle = [ours.attention_norm(x + attention.output(one)) for x, one in zip(states, found, strict=True)]
    inner = _strongest_units(theirs, layer, ours.inner.out_features)
    _set(ours.inner, *fit(rows.tokens(middle), layer.inner[:, inner]))
    expanded = [ours.activation(ours.inner(one)) for one in middle]
    output = (layer.output - layer.output.mean(0)) @ directions
    _fit_residual(ours.outer, ours.norm, rows.tokens(middle), rows.tokens(expanded), output)
    return [ours.norm(x + ours.outer(one)) for x, one in zip(middle, expanded, strict=True)]


def _strongest_heads(block: Block, layer: Layer, count: int) -> Tensor:
    """Return the units of the `count` heads of a teacher's block that add most to the residual, in their order."""
    weight = block.attention.output.weight  # [H, H]: to, from
    units = weight.shape[1] // block.attention.heads
    added = [
        float((layer.found[:, at : at + units] @ weight[:, at : at + units].T).square().sum())
        for at in range(0, weight.shape[1], units)
    ]
    chosen = torch.tensor(added).topk(count).indices.sort().values
    return (chosen[:, None] * units + torch.arange(units)).flatten()


def _strongest_units(block: Block, layer: Layer, count: int) -> Tensor:
    """Return the `count` inner units of a teacher's block that add most to the residual, in their order."""
    added = block.activation(layer.inner).square().sum(0) * block.outer.weight.square().sum(0)
    return added.topk(count).indices.sort().values


def _fit_residual(layer: nn.Linear, norm: nn.LayerNorm, read: Tensor, found: Tensor, target: Tensor) -> None:
    """Fit a layer and the LayerNorm after it: norm(read + layer(found)) is to be `target`, all [N, W].

    The norm does not see the size of its input, so this is to be a multiple of the target: the one by which it is
    nearest, in proportion.
    """
    matrix, offsets = fit(found, torch.cat([target, read], -1))
    (to_target, to_read), (bias, offset) = matrix.chunk(2, -1), offsets.chunk(2)
    rest, kept = target - found @ to_target - bias, read - found @ to_read - offset
    product = float((rest * kept).sum())
    times = float(kept.square().sum()) / product if product > 0 else 1.0
    _set(layer, times * to_target - to_read, times * bias - offset)
    _fit_norm(norm, read + layer(found), target)


def _fit_norm(norm: nn.LayerNorm, values: Tensor, target: Tensor) -> None:
    """Set scale and bias of a LayerNorm so that it turns `values` [N, W] into about `target` [N, W], unit by unit."""
    normal = functional.layer_norm(values, values.shape[-1:], eps=norm.eps)
    mean, goal = normal.mean(0), target.mean(0)
    scale = ((normal - mean) * (target - goal)).sum(0) / (normal - mean).square().sum(0)
    norm.weight.copy_(scale)
    norm.bias.copy_(goal - scale * mean)


def _fit_pooler(
    teacher: BertForPreTraining, student: BertForPreTraining, hidden: Sequence[Tensor], states: Sequence[Tensor]
) -> None:
    """Fit the pooler to the units of the teacher's that vary most."""
    pooled = teacher.pooler.dense(torch.cat([one[:, 0] for one in hidden]))
    units = teacher.pooler.activation(pooled).var(0).topk(student.config.hidden_size).indices.sort().values
    _set(student.pooler.dense, *fit(torch.cat([one[:, 0] for one in states]), pooled[:, units], ridge=10 * RIDGE))


def fit(values: Tensor, target: Tensor, *, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
    """Return the matrix [W, V] and offset [V] by which `values` [N, W] give `target` [N, V] with the least squares."""
    mean, goal = values.mean(0), target.mean(0)
    centred = values - mean
    squares = (centred.T @ centred).double()
    squares.diagonal().add_(ridge * squares.diagonal().mean())
    matrix: Tensor = torch.linalg.solve(squares, (centred.T @ (target - goal)).double()).float()
    return matrix, goal - mean @ matrix


def _set(layer: nn.Linear, matrix: Tensor, offset: Tensor) -> None:
    """Make a layer multiply by `matrix` [in, out] and add `offset` [out]."""
    layer.weight.copy_(matrix.T)
    layer.bias.copy_(offset)
