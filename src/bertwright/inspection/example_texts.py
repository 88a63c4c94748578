"""Holds the texts that a model is shown with where nobody gives others: questions, pairs, and texts for tasks."""

from __future__ import annotations

from bertwright.tokenizer.load import Tokenizer

Texts = tuple[str, ...]
"""A text, or a pair."""

QUESTIONS = [
    "Return True if the [MASK] is empty.",
    "Return a [MASK] of the object.",
    "The file does not [MASK].",
    "The default [MASK] is None.",
    "Compute the [MASK] of the tensor.",
]
"""Those of the quickstart, about the documentation of Python."""
PAIRS = [
    ("Return True if the list is empty.", "Otherwise, return False."),
    ("Return True if the list is empty.", "The network layer has four heads."),
]
CHINESE_QUESTIONS = ["北京是中国的首[MASK]。", "他每天早上去学[MASK]上课。", "今天天[MASK]很好。"]
CHINESE_PAIRS = [("他每天早上去学校上课。", "放学以后他回家。"), ("他每天早上去学校上课。", "石油价格继续上涨。")]
SINGLE = ["The film is slow, but its music is wonderful.", "I would not watch it again."]
CHINESE_SINGLE = ["这部电影很慢，但是音乐很好听。", "我不会再看一遍。"]
OF_TASKS: dict[str, list[Texts]] = {
    "tag": [("Anna Smith moved from Berlin to work for Siemens in Vienna.",)],
    "answer": [
        ("Where was Marie Curie born?", "Marie Curie was born in Warsaw. She moved to Paris in 1891 to study physics."),
        ("Who won the match?", "Marie Curie was born in Warsaw. She moved to Paris in 1891 to study physics."),
    ],
}
OF_CHINESE_TASKS: dict[str, list[Texts]] = {
    "tag": [("王小明从上海搬到北京，在清华大学工作。",)],
    "answer": [("居里夫人出生在哪里？", "居里夫人出生在华沙，一八九一年到巴黎学习物理。")],
}
MOST_UNKNOWN = 0.2
"""Share of [UNK] from which on a tokenizer does not know English, and is asked in Chinese."""


def default_texts(tokenizer: Tokenizer, *, task: str | None, fills_masks: bool, tells_pairs: bool) -> list[Texts]:
    """Return texts for a model of a `task`, or of pre-training; Chinese ones where its tokenizer knows no English."""
    ids = [token for text in SINGLE for token in tokenizer.encode(text)]
    english = ids.count(tokenizer.special.unk) < MOST_UNKNOWN * len(ids)
    if task is not None and (given := (OF_TASKS if english else OF_CHINESE_TASKS).get(task)):
        return given
    singles = (QUESTIONS if english else CHINESE_QUESTIONS) if fills_masks else (SINGLE if english else CHINESE_SINGLE)
    pairs = (PAIRS if english else CHINESE_PAIRS) if tells_pairs else []
    return [*((text,) for text in singles), *pairs]
