"""Entities in every scheme and notation against seqeval, which is asked in the two modes it has.

Default mode, as conlleval counts: on the tags of the file as they are written, in every scheme, and on what is learned.
Strict mode: with the scheme of seqeval of that name, on tags that keep to the scheme.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
import seqeval.metrics
import seqeval.scheme
from seqeval.metrics.sequence_labeling import get_entities

from bertwright.tasks.tagging.conll import read_conll
from bertwright.tasks.tagging.metrics import compare, entities_of, tag_set
from bertwright.tasks.tagging.schemes import allowed_transitions, as_labels, detect_scheme, tag_labels

Entity = tuple[str, int, int]
STRICT = {
    "IOB1": seqeval.scheme.IOB1,
    "IOB2": seqeval.scheme.IOB2,
    "IOE2": seqeval.scheme.IOE2,
    "BIOES": seqeval.scheme.IOBES,
    "BILOU": seqeval.scheme.BILOU,
}
ENDS = {"BIOES": "IES", "BILOU": "ILU", "BMES": "MES", "BMEWO": "MEW"}
"""Letters inside, at the end, and of whole entities."""
AS_SEQEVAL = {"L": "E", "U": "S", "M": "I", "W": "S"}
"""Letters that seqeval's default mode does not know, as it knows them."""
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
    tags, ended, starts = ["O"] * count, {}, {first: kind for kind, first, _ in entities}
    for kind, first, last in entities:
        inside = [f"I-{kind}"] * (last - first + 1)
        if name == "IOB2" or (name == "IOB1" and ended.get(first - 1) == kind):
            inside[0] = f"B-{kind}"
        elif name == "IOE2" or (name == "IOE1" and starts.get(last + 1) == kind):
            inside[-1] = f"E-{kind}"
        elif name in ENDS:
            within, end, alone = ENDS[name]
            inside = [f"{within}-{kind}"] * len(inside)
            inside[0], inside[-1] = f"B-{kind}", f"{end}-{kind}"
            inside = [f"{alone}-{kind}"] if first == last else inside
        tags[first : last + 1] = inside
        ended[last] = kind
    return tags


def rewrite(tag: str, notation: str) -> str:
    """Return a tag of the form B-TYPE in another notation."""
    if tag == "O":
        return "o" if notation in ("b-type", "b") else tag
    letter, kind = tag.split("-", 1)
    lower = letter.lower()
    return {
        "TYPE-B": f"{kind}-{letter}", "TYPE_B": f"{kind}_{letter}", "B_TYPE": f"{letter}_{kind}",
        "b-type": f"{lower}-{kind}", "B": letter, "b": lower,
    }.get(notation, tag)  # fmt: skip


def read_back(path: Path, sentences: list[list[str]]) -> tuple[str, list[list[Entity]], list[list[str]]]:
    """Return what the scheme is called, the entities of each sentence, and its tags as the model learns them."""
    path.write_text("\n\n".join("\n".join(f"w\t{tag}" for tag in tags) for tags in sentences) + "\n")
    words = read_conll(path)
    scheme = detect_scheme(words)
    labels = tag_labels(words, scheme)
    tags = as_labels(words, labels)
    names = tag_set(labels)
    found = entities_of(tags, words.counts, names)
    begins = np.cumsum(words.counts) - words.counts
    every: list[list[Entity]] = [[] for _ in sentences]
    for first, last, kind in zip(found.first.tolist(), found.last.tolist(), found.kind.tolist(), strict=True):
        owner = int(np.searchsorted(begins, first, side="right")) - 1
        every[owner].append((names.types[kind], first - int(begins[owner]), last - int(begins[owner])))
    return str(scheme), every, [[labels[tag] for tag in part] for part in np.split(tags, begins[1:])]


WITHOUT_BEGIN = ("IO", "IOE1", "IOE2")


def default_mode(tags: list[str], *, suffix: bool = False) -> list[Entity]:
    """Return the entities that seqeval's default mode finds, letters it does not know as it knows them."""
    known = [
        f"{tag[:-1]}{AS_SEQEVAL.get(tag[-1], tag[-1])}" if suffix else f"{AS_SEQEVAL.get(tag[0], tag[0])}{tag[1:]}"
        for tag in tags
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[Entity] = get_entities(known, suffix=suffix)
    return found


@pytest.mark.parametrize("name", ["IOB1", "IOB2", "IO", "IOE1", "IOE2", "BIOES", "BILOU", "BMES", "BMEWO"])
@pytest.mark.parametrize("seed", range(3))
def test_entities_come_back_from_every_scheme(tmp_path: Path, name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    drawn = [sentence(random, touching=name != "IO") for _ in range(60)]
    tags = [write_tags(count, entities, name) for count, entities in drawn]
    scheme, found, become = read_back(tmp_path / "a.conll", tags)
    letter = "I" if name in WITHOUT_BEGIN else "B"
    assert scheme.startswith(name)
    assert f"{letter}-TYPE" in scheme
    assert found == [entities for _, entities in drawn]
    assert found == [default_mode(part) for part in tags]
    assert found == [default_mode(part) for part in become]
    if name in STRICT:
        theirs = seqeval.scheme.Entities(tags, STRICT[name]).entities
        assert found == [[(one.tag, one.start, one.end - 1) for one in part] for part in theirs]
    labels = sorted({tag for part in become for tag in part})
    first, following, last = allowed_transitions(labels)
    for part in become:
        places = [labels.index(tag) for tag in part]
        assert first[places[0]]
        assert last[places[-1]]
        assert all(following[a, b] for a, b in itertools.pairwise(places))


@pytest.mark.parametrize("name", ["IOB2", "IOE2", "BIOES", "BILOU", "BMES"])
@pytest.mark.parametrize("notation", ["TYPE-B", "TYPE_B", "B_TYPE", "b-type", "B", "b"])
def test_entities_come_back_from_every_notation(tmp_path: Path, name: str, notation: str) -> None:
    random = np.random.default_rng(7)
    drawn = [sentence(random, touching=True) for _ in range(60)]
    tags = [[rewrite(tag, notation) for tag in write_tags(count, entities, name)] for count, entities in drawn]
    scheme, found, become = read_back(tmp_path / "a.conll", tags)
    shown = notation.replace("B", "I").replace("b", "i") if name in WITHOUT_BEGIN else notation
    assert scheme.startswith(name)
    assert shown in scheme
    bare = len(notation) == 1
    assert found == [[("" if bare else kind, *where) for kind, *where in entities] for _, entities in drawn]
    learned = [default_mode(part) for part in become]
    assert found == [[("" if bare else kind, *where) for kind, *where in part] for part in learned]
    upper = [[tag.upper() for tag in part] for part in tags]
    theirs = [default_mode(part, suffix=notation.endswith("B") and not bare) for part in upper]
    assert [[where for _, *where in part] for part in found] == [[where for _, *where in part] for part in theirs]


@pytest.mark.parametrize(
    ("labels", "suffix"),
    [
        ("O B I", False),
        ("O DRUG-B DRUG-I SIGN-B SIGN-I", True),
        ("O B_DRUG I_DRUG", False),
        ("o b-drug i-drug b-sign i-sign", False),
        ("O B-A I-A E-A S-A B-B I-B E-B S-B", False),
        ("O I-A E-A I-B E-B", False),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_f1_of_predictions_in_every_notation(labels: str, suffix: bool, seed: int) -> None:
    """Predictions may break the scheme: both are counted in the default mode, on the tags as they are written."""
    random, names = np.random.default_rng(seed), labels.split()
    counts = random.integers(1, 12, size=50)
    gold = random.integers(len(names), size=int(counts.sum()))
    predicted = np.where(random.random(len(gold)) < 0.8, gold, random.integers(len(names), size=len(gold)))
    tags = tag_set(names)
    whole, *_ = compare(
        *(entities_of(some, counts, tags) for some in (gold, predicted)), words=len(gold), types=len(tags.types)
    )
    written = [
        [[names[tag].upper() for tag in part] for part in np.split(some, np.cumsum(counts)[:-1])]
        for some in (gold, predicted)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert whole.f1 == pytest.approx(seqeval.metrics.f1_score(*written, suffix=suffix), abs=1e-12)
    assert whole.labels > 0


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
