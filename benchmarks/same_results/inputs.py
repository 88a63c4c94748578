"""Turns a seed into small files of every kind that the commands read: raw texts, labelled tables, pairs and questions.

Sentences have repeated structure, so that a tiny model learns a little in a few steps; labels follow from the words.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WHO = (
    "the baker",
    "a sailor",
    "my sister",
    "the old farmer",
    "our teacher",
    "a young doctor",
    "the king",
    "her neighbour",
)
NAMES = ("Anna", "Bert", "Clara", "David", "Emma", "Felix")
PLACES = ("Rome", "Oslo", "Paris", "Lima", "Cairo", "Kyoto")
DOES = ("sees", "buys", "paints", "carries", "loses", "finds")
GOOD = ("lovely", "bright", "wonderful", "clever", "warm", "fine")
BAD = ("ugly", "dull", "terrible", "stupid", "cold", "broken")
THINGS = ("house", "boat", "garden", "letter", "window", "lamp", "horse", "table")
WHEN = ("in the morning", "after the rain", "before dinner", "on Sunday", "every winter", "at night")
TOPICS = {
    "travel": "The train to the coast is late.",
    "food": "The soup has salt and pepper.",
    "sport": "The team runs fast.",
}

WHO_ZH = ("面包师", "水手", "我的姐姐", "老农民", "我们的老师", "年轻的医生")
DOES_ZH = ("看见", "买了", "画了", "带来", "丢了", "找到")
THINGS_ZH = ("房子", "小船", "花园", "信", "窗户", "灯")
WHEN_ZH = ("早上", "雨后", "晚饭前", "星期天", "每年冬天", "夜里")

WORDS_DE = {"the": "das", "a": "ein", "house": "Haus", "boat": "Boot", "garden": "Garten", "letter": "Brief"}

RECIPE = """
size = "tiny"

[data]
fill_rows = true

[objective]
next_sentence = false
mask_rate = 0.3
final_mask_rate = 0.15
mask_share = 1.0
random_share = 0.0

[optimizer]
final_weight_decay = 0.1

[schedule]
steps = 6
decay_share = 0.5
phases = [{{ length = 64, rows = 4, share = 0.5 }}, {{ length = 64, rows = 8, share = 0.5, rate = {rate} }}]
"""


def sentence(draw: random.Random, adjectives: Sequence[str] = (*GOOD, *BAD)) -> str:
    """Return an English sentence."""
    predicted = f"{draw.choice(WHO)} {draw.choice(DOES)} the {draw.choice(adjectives)} {draw.choice(THINGS)}"
    return f"{predicted[0].upper()}{predicted[1:]} {draw.choice(WHEN)}."


def sentence_zh(draw: random.Random) -> str:
    """Return a Chinese sentence."""
    return f"{draw.choice(WHEN_ZH)}{draw.choice(WHO_ZH)}{draw.choice(DOES_ZH)}一个{draw.choice(THINGS_ZH)}。"


def documents(draw: random.Random, count: int, say: Callable[[random.Random], str] = sentence) -> list[str]:
    """Return documents of 4 to 9 sentences."""
    blank = "" if say is sentence_zh else " "
    return [blank.join(say(draw) for _ in range(draw.randint(4, 9))) for _ in range(count)]


def write_inputs(folder: Path, seed: int) -> None:
    """Write every file into `folder`; each kind has a random stream of its own."""
    folder.mkdir(parents=True)
    for number, write in enumerate((raw_texts, tables, pairs, tags, questions, choices, translations, recipe)):
        write(folder, random.Random(f"{seed} {number}"))


def raw_texts(folder: Path, draw: random.Random) -> None:
    """Write what `prepare` and `doctor` read: English, Chinese, JSON lines, CSV, and a dirty text."""
    english, more = documents(draw, 160), documents(draw, 60)
    lines(folder / "en.txt", "\n\n".join(english).splitlines())
    lines(folder / "zh.txt", "\n\n".join(documents(draw, 120, sentence_zh)).splitlines())
    with gzip.GzipFile(folder / "more.jsonl.gz", "wb", mtime=0) as file:
        file.write("".join(json.dumps({"text": text, "id": n}) + "\n" for n, text in enumerate(more)).encode())
    table(folder / "more.csv", ["title", "body"], [[text[:20], text] for text in more[:40]])
    changed = [text.replace("Sunday", "Monday") for text in english[:20]]
    notice = "All rights reserved by the people of this page, and nobody else."
    dirty = (
        [f"{notice}\n{text}" for text in more] + english[:10] + changed + ["1 2 3 4 5 6 7", "naÃ¯ve cafÃ© " + more[0]]
    )
    rows(folder / "dirty.jsonl", [{"text": text} for text in dirty])
    rows(folder / "minimal.jsonl", [minimal_pair(draw) for _ in range(40)])
    lines(folder / "masked.txt", [sentence(draw).replace(" the ", " [MASK] ", 1) for _ in range(12)])
    lines(folder / "masked-zh.txt", [sentence_zh(draw).replace("一个", "[MASK]个") for _ in range(6)])
    lines(folder / "next.txt", [f"{sentence(draw)}\t{sentence(draw)}" for _ in range(8)])


def minimal_pair(draw: random.Random) -> dict[str, str]:
    """Return a good and a bad sentence that differ in the order of two words."""
    good = sentence(draw)
    return {"good": good, "bad": good.replace("the ", "", 1).replace(".", " the.")}


def tables(folder: Path, draw: random.Random) -> None:
    """Write what `classify` and `regress` read: one text, pairs, several labels, scores, texts without labels."""
    for name, count in (("train", 64), ("dev", 24)):
        labels = [draw.choice(("good", "bad")) for _ in range(count)]
        texts = [sentence(draw, GOOD if label == "good" else BAD) for label in labels]
        table(folder / f"classify-{name}.tsv", ["sentence", "label"], zip(texts, labels, strict=True))
        topics = [draw.sample(sorted(TOPICS), draw.randint(0, 2)) for _ in range(count)]
        several = [" ".join([sentence(draw), *(TOPICS[one] for one in chosen)]) for chosen in topics]
        found = [{"text": text, "labels": chosen} for text, chosen in zip(several, topics, strict=True)]
        rows(folder / f"several-{name}.jsonl", found)
        alike = [scored_pair(draw) for _ in range(count)]
        table(folder / f"scores-{name}.csv", ["sentence1", "sentence2", "score"], alike)
        entailed = [[one, other, "same" if score > 2 else "other"] for one, other, score in alike]
        table(folder / f"pairs-{name}.tsv", ["premise", "hypothesis", "label"], entailed)
    texts = [sentence(draw) for _ in range(20)]
    lines(folder / "texts.txt", texts)
    rows(folder / "unlabelled.jsonl", [{"sentence": text} for text in texts])
    table(folder / "pairs.tsv", ["premise", "hypothesis"], [scored_pair(draw)[:2] for _ in range(12)])


def scored_pair(draw: random.Random) -> list[Any]:
    """Return two sentences, and from 0 to 5 how many of their words agree."""
    one, other = sentence(draw).split(), sentence(draw).split()
    kept = draw.randint(0, 5)
    return [" ".join(one), " ".join(one[: kept + 1] + other[kept + 1 :]), kept]


def pairs(folder: Path, draw: random.Random) -> None:
    """Write what `embed` learns from: pairs that belong together, with a third text unlike the first."""
    for name, count in (("train", 64), ("dev", 24)):
        belong = [[*scored_pair(draw)[:2], sentence(draw)] for _ in range(count)]
        table(folder / f"embed-{name}.tsv", ["anchor", "positive", "negative"], belong)


def tags(folder: Path, draw: random.Random) -> None:
    """Write what `tag` reads: CoNLL with names and places."""
    for name, count in (("train", 60), ("dev", 24)):
        given = []
        for _ in range(count):
            who, place = draw.choice(NAMES), draw.choice(PLACES)
            words = [(who, "B-PER"), (draw.choice(DOES), "O"), ("the", "O"), (draw.choice(THINGS), "O"), ("in", "O")]
            words += [("New", "B-LOC"), (place, "I-LOC")] if draw.random() < 0.4 else [(place, "B-LOC")]
            given += [f"{word}\t{tag}" for word, tag in [*words, (".", "O")]] + [""]
        lines(folder / f"tag-{name}.conll", given)
    lines(folder / "tag.txt", [f"{draw.choice(NAMES)} finds the lamp in {draw.choice(PLACES)} ." for _ in range(10)])


def questions(folder: Path, draw: random.Random) -> None:
    """Write what `answer` reads: SQuAD json, some questions without an answer."""
    for name, count in (("train", 24), ("dev", 10)):
        articles = [{"title": f"{name} {n}", "paragraphs": [paragraph(draw, f"{name}-{n}")]} for n in range(count)]
        text = json.dumps({"version": "v2.0", "data": articles})
        (folder / f"answer-{name}.json").write_text(text, encoding="utf-8")


def paragraph(draw: random.Random, name: str) -> dict[str, Any]:
    """Return a context and three questions about it, the last without an answer."""
    (one, other), places = draw.sample(NAMES, 2), draw.sample(PLACES, 2)
    context = f"{sentence(draw)} {one} lives in {places[0]}. {sentence(draw)} {other} lives in {places[1]}."
    inputs = []
    for number, (who, place) in enumerate([(one, places[0]), (other, places[1]), ("Zoe", None)]):
        answers = [] if place is None else [{"text": place, "answer_start": context.index(f" {place}.") + 1}]
        question = {"id": f"{name}-{number}", "question": f"Where does {who} live?"}
        inputs.append({**question, "answers": answers, "is_impossible": place is None})
    return {"context": context, "qas": inputs}


def choices(folder: Path, draw: random.Random) -> None:
    """Write what `choose` reads: a beginning and three endings."""
    for name, count in (("train", 32), ("dev", 16)):
        made = []
        for _ in range(count):
            thing, right = draw.choice(THINGS), draw.randrange(3)
            endings = [f"It is a {draw.choice([one for one in THINGS if one != thing])}." for _ in range(3)]
            endings[right] = f"It is a {thing}."
            made.append([f"{draw.choice(NAMES)} finds the {thing}.", *endings, right])
        table(folder / f"choose-{name}.csv", ["context", "ending0", "ending1", "ending2", "label"], made)


def translations(folder: Path, draw: random.Random) -> None:
    """Write what `translate` reads: two files of as many lines."""
    for name, count in (("train", 48), ("dev", 12)):
        sources = [
            f"the {draw.choice(sorted(WORDS_DE)[1:5])} and a {draw.choice(sorted(WORDS_DE)[1:5])}" for _ in range(count)
        ]
        lines(folder / f"translate-{name}.en", sources)
        targets = [" ".join(WORDS_DE.get(word, "und") for word in source.split()) for source in sources]
        lines(folder / f"translate-{name}.de", targets)


def recipe(folder: Path, draw: random.Random) -> None:
    """Write a recipe of one's own: a batch ramp, a held peak, weight decay and mask rate that move."""
    (folder / "own.toml").write_text(RECIPE.format(rate=draw.choice((1.2, 1.4))), encoding="utf-8")


def lines(path: Path, texts: Sequence[str]) -> None:
    """Write a text a line."""
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def rows(path: Path, objects: Sequence[dict[str, Any]]) -> None:
    """Write a JSON object a line."""
    lines(path, [json.dumps(one, ensure_ascii=False) for one in objects])


def table(path: Path, header: Sequence[str], cells: Any) -> None:
    """Write a table, .tsv or .csv."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
        writer.writerows([header, *cells])
