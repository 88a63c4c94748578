"""The CRF against every path there is, written down one by one: partition, best path, marginals and gradients."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bertwright.model.crf import Crf
from bertwright.tasks.tagging.decode import decode_tags
from bertwright.tasks.tagging.schemes import allowed_transitions
from bertwright.tasks.tagging.task import Tag, crf_of
from bertwright.types import LabelledBatch

SCHEMES = {
    "iob": ["O", "B-X", "I-X", "B-Y", "I-Y"],
    "bioes": ["O", "B-X", "I-X", "E-X", "S-X"],
    "plain": ["DET", "NOUN", "VERB"],
}
COUNTS = (4, 1, 3)


def random_crf(labels: list[str], seed: int) -> Crf:
    torch.manual_seed(seed)
    crf = crf_of(labels).double()
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return crf


def score(crf: Crf, logits: Tensor, path: tuple[int, ...]) -> Tensor:
    total = crf.first[path[0]] + crf.last[path[-1]] + sum(logits[place, tag] for place, tag in enumerate(path))
    return total + sum((crf.next[a, b] for a, b in itertools.pairwise(path)), torch.zeros(()))


def lawful(labels: list[str], path: tuple[int, ...]) -> bool:
    first, following, last = allowed_transitions(labels)
    return bool(first[path[0]] and last[path[-1]] and all(following[a, b] for a, b in itertools.pairwise(path)))


def some_sentences(labels: list[str], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [3, 4, K], a lawful path of each, and where words are."""
    torch.manual_seed(seed)
    logits = torch.randn(len(COUNTS), max(COUNTS), len(labels), dtype=torch.float64)
    here = torch.arange(max(COUNTS))[None, :] < torch.tensor(COUNTS)[:, None]
    tags = torch.full(here.shape, -100)
    for row, count in enumerate(COUNTS):
        paths = [path for path in itertools.product(range(len(labels)), repeat=count) if lawful(labels, path)]
        tags[row, :count] = torch.tensor(paths[int(torch.randint(len(paths), ()))])
    return logits, tags, here


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(3))
def test_every_path_counted_one_by_one(scheme: str, seed: int) -> None:
    labels = SCHEMES[scheme]
    crf, (logits, tags, here) = random_crf(labels, seed), some_sentences(labels, seed)
    chain, arrays = crf.decoder(), (logits.numpy(), tags.numpy(), here.numpy())
    nats, best = crf.negative_log_likelihood(logits, tags, here), chain.decode(arrays[0], arrays[2])
    shares = np.exp(chain.log_marginals(arrays[0], arrays[2]))
    expected = []
    for row, count in enumerate(COUNTS):
        paths = [path for path in itertools.product(range(len(labels)), repeat=count) if lawful(labels, path)]
        scores = torch.stack([score(crf, logits[row], path) for path in paths])
        expected.append(torch.logsumexp(scores, 0) - score(crf, logits[row], tuple(tags[row, :count].tolist())))
        assert tuple(best[row, :count].tolist()) == paths[int(scores.argmax())]
        for place, tag in itertools.product(range(count), range(len(labels))):
            through = [
                share for path, share in zip(paths, scores.softmax(0).tolist(), strict=True) if path[place] == tag
            ]
            assert float(shares[row, place, tag]) == pytest.approx(sum(through), abs=1e-9)
    assert not best[~arrays[2]].any()
    np.testing.assert_allclose(chain.negative_log_likelihood(*arrays), nats.detach().numpy(), atol=1e-9)
    torch.testing.assert_close(nats, torch.stack(expected), rtol=0, atol=1e-9)
    ours = torch.autograd.grad(nats.sum(), list(crf.parameters()))
    theirs = torch.autograd.grad(torch.stack(expected).sum(), list(crf.parameters()))
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-9)


@torch.no_grad()
def test_a_path_that_breaks_the_scheme_is_marked_without_it() -> None:
    """The second part of a sentence that was split may begin inside an entity; its surprise is a number."""
    labels = SCHEMES["iob"]
    crf, (logits, tags, here) = random_crf(labels, 0), some_sentences(labels, 0)
    tags[0, :4] = torch.tensor([2, 0, 0, 0])
    every = [score(crf, logits[0], path) for path in itertools.product(range(5), repeat=4)]
    expected = torch.logsumexp(torch.stack(every), 0) - score(crf, logits[0], (2, 0, 0, 0))
    assert float(crf.negative_log_likelihood(logits, tags, here)[0]) == pytest.approx(float(expected), abs=1e-9)
    assert crf.decoder().negative_log_likelihood(logits.numpy(), tags.numpy(), here.numpy())[0] == pytest.approx(
        float(expected), abs=1e-9
    )


@pytest.mark.parametrize("scheme", ["iob", "bioes"])
def test_nothing_unlawful_is_ever_said(scheme: str) -> None:
    labels, random = SCHEMES[scheme], np.random.default_rng(0)
    counts = random.integers(1, 30, size=700)
    logits = random.normal(size=(counts.sum(), len(labels)), scale=5).astype(np.float32)
    read = decode_tags(crf_of(labels).decoder(), logits, counts, np.zeros(len(logits), dtype=np.int64))
    for part in np.split(read.tags, np.cumsum(counts)[:-1]):
        assert lawful(labels, tuple(part.tolist()))
    np.testing.assert_allclose(np.exp(read.log_probabilities).sum(-1), 1, atol=1e-5)
    one = decode_tags(
        crf_of(labels).decoder(), logits[: counts[0]], counts[:1], np.zeros(int(counts[0]), dtype=np.int64)
    )
    np.testing.assert_array_equal(one.tags, read.tags[: counts[0]])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_words_of_a_path_are_counted_one_after_another(scheme: str) -> None:
    """The probability of a tag after the one before it, from all paths that begin alike."""
    labels = SCHEMES[scheme]
    crf, (logits, tags, here) = random_crf(labels, 7), some_sentences(labels, 7)
    nats = crf.nats_of_words(logits, tags, here).detach()
    torch.testing.assert_close(nats.sum(1), crf.negative_log_likelihood(logits, tags, here).detach(), atol=1e-9, rtol=0)
    assert not nats[~here].any()
    for row, count in enumerate(COUNTS):
        paths = [path for path in itertools.product(range(len(labels)), repeat=count) if lawful(labels, path)]
        shares = torch.stack([score(crf, logits[row], path) for path in paths]).softmax(0).detach()
        chosen = tuple(tags[row, :count].tolist())
        for place in range(count):
            alike = [share for path, share in zip(paths, shares, strict=True) if path[:place] == chosen[:place]]
            going_on = [s for path, s in zip(paths, shares, strict=True) if path[: place + 1] == chosen[: place + 1]]
            assert float(nats[row, place]) == pytest.approx(float(-(sum(going_on) / sum(alike)).log()), abs=1e-9)


def test_a_crf_with_class_weights() -> None:
    """Without transitions it is the weighted cross-entropy; with equal weights the mean negative log-likelihood."""
    torch.manual_seed(0)
    labels = ["DET", "NOUN", "VERB"]
    tags = torch.tensor([[0, 2, 1, 1], [2, 0, -100, -100]])
    logits = torch.randn(2, 4, 3)
    ids = torch.ones(2, 4, dtype=torch.int64)
    batch = LabelledBatch(ids, ids * 0, ids > 0, ids.cumsum(1) - 1, tags)
    weights = np.array([0.2, 1.0, 5.0], dtype=np.float32)
    plain = Tag(tuple(labels), weights=weights)
    loss = replace(plain, crf=crf_of(labels)).loss(logits, batch)
    torch.testing.assert_close(loss.total, plain.loss(logits, batch).total)
    torch.testing.assert_close(loss.mass, plain.loss(logits, batch).mass)
    crf = random_crf(labels, 1).float()
    alike = replace(plain, weights=np.full(3, 0.7, dtype=np.float32), crf=crf).loss(logits, batch)
    torch.testing.assert_close(alike.total, replace(plain, weights=None, crf=crf).loss(logits, batch).total)
    heavier = replace(plain, crf=crf).loss(logits, batch)
    assert not torch.isclose(heavier.total, alike.total)
