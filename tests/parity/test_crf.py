"""The CRF against every path there is, written down one by one: partition, best path, marginals and gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from bertwright.model.crf import Crf
from bertwright.tasks.tagging.decode import decode_tags
from bertwright.tasks.tagging.schemes import allowed_transitions
from bertwright.tasks.tagging.task import crf_of

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
