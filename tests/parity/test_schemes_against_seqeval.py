"""Entities written in every scheme, read by us and by seqeval: the same entities, whatever the tags became."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import seqeval.scheme
from seqeval.metrics.sequence_labeling import get_entities

from bertwright.evaluate.entities import entities_of, tag_set
from bertwright.tasks.conll import read_conll
from bertwright.tasks.schemes import in_scheme, lawful_steps, tag_names, tell_scheme

Entity = tuple[str, int, int]
STRICT = {
    "IOB1": seqeval.scheme.IOB1,
    "IOB2": seqeval.scheme.IOB2,
    "BIOES": seqeval.scheme.IOBES,
    "BILOU": seqeval.scheme.BILOU,
}
TYPES = ("LOC", "ORG", "PER-X")


def sentence(random: np.random.Generator, *, touching: bool) -> tuple[int, list[Entity]]:
    """Return a number of words and some entities in them; without `touching` a word stands between two of a type."""
    count = int(random.integers(1, 15))
    entities: list[Entity] = []
    at = 0
    while at < count:
        length = int(random.integers(1, 5))
        if random.random() < 0.6 and at + length <= count:
            entities.append((str(random.choice(TYPES)), at, at + length - 1))
            at += length + (0 if touching else 1)
        else:
            at += 1
    return count, entities


def write_tags(count: int, entities: list[Entity], name: str) -> list[str]:
    """Return the tags of a sentence as each scheme was published."""
    tags, ended = ["O"] * count, {}
    for kind, first, last in entities:
        inside = [f"I-{kind}"] * (last - first + 1)
        if name == "IOB2" or (name == "IOB1" and ended.get(first - 1) == kind):
            inside[0] = f"B-{kind}"
        elif name in ("BIOES", "BILOU"):
            end, alone = ("E", "S") if name == "BIOES" else ("L", "U")
            inside[0], inside[-1] = f"B-{kind}", f"{end}-{kind}"
            inside = [f"{alone}-{kind}"] if first == last else inside
        tags[first : last + 1] = inside
        ended[last] = kind
    return tags


def read_back(path: Path, sentences: list[list[str]]) -> tuple[str, list[list[Entity]], list[list[str]]]:
    """Return what the scheme is called, the entities of each sentence, and its tags as the model learns them."""
    path.write_text("\n\n".join("\n".join(f"w\t{tag}" for tag in tags) for tags in sentences) + "\n")
    words = read_conll(path)
    called, scheme = tell_scheme(words)
    labels = tag_names(words, scheme)
    tags = in_scheme(words, scheme, labels)
    names = tag_set(labels)
    found = entities_of(tags, words.counts, names)
    begins = np.cumsum(words.counts) - words.counts
    every: list[list[Entity]] = [[] for _ in sentences]
    for first, last, kind in zip(found.first.tolist(), found.last.tolist(), found.kind.tolist(), strict=True):
        owner = int(np.searchsorted(begins, first, side="right")) - 1
        every[owner].append((names.types[kind], first - int(begins[owner]), last - int(begins[owner])))
    return called, every, [[labels[tag] for tag in part] for part in np.split(tags, begins[1:])]


@pytest.mark.parametrize("name", ["IOB1", "IOB2", "IO", "BIOES", "BILOU"])
@pytest.mark.parametrize("seed", range(5))
def test_entities_come_back_from_every_scheme(tmp_path: Path, name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    drawn = [sentence(random, touching=name != "IO") for _ in range(60)]
    tags = [write_tags(count, entities, name) for count, entities in drawn]
    called, found, become = read_back(tmp_path / "a.conll", tags)
    assert called == name
    assert found == [entities for _, entities in drawn]
    if name in STRICT:
        theirs = seqeval.scheme.Entities(tags, STRICT[name]).entities
        assert found == [[(one.tag, one.start, one.end - 1) for one in part] for part in theirs]
    assert found == [get_entities(part) for part in become]
    labels = sorted({tag for part in become for tag in part})
    first, following, last = lawful_steps(labels)
    for part in become:
        places = [labels.index(tag) for tag in part]
        assert first[places[0]]
        assert last[places[-1]]
        assert all(following[a, b] for a, b in itertools.pairwise(places))


@pytest.mark.parametrize("letters", ["BI", "BIES", "ES", "IE"])
@pytest.mark.parametrize("seed", range(10))
def test_any_tags_at_all_are_read_as_seqeval_reads_them(letters: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = ["O", *(f"{letter}-{kind}" for kind in TYPES for letter in letters)]
    names, counts = tag_set(labels), random.integers(0, 7, size=80)
    tags = random.choice(len(labels), size=int(counts.sum()))
    found = entities_of(tags, counts, names)
    ours = [
        (names.types[kind], first, last)
        for first, last, kind in zip(found.first.tolist(), found.last.tolist(), found.kind.tolist(), strict=True)
    ]
    begins = np.cumsum(counts) - counts
    theirs = [
        (kind, first + int(begin), last + int(begin))
        for begin, part in zip(begins, np.split(tags, begins[1:]), strict=True)
        for kind, first, last in get_entities([labels[tag] for tag in part])
    ]
    assert ours == theirs
