"""Makes the data of the GPU benchmark: text of a drawn language, labelled examples, models to start from.

Words are syllables drawn from a seed, and fall off as in real text (Zipf). Each document has a topic with favourite
words, so that there is something to learn; the label of an example is the half its topic stands in.
"""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from gpu_parts.part import Part

from bertwright.device import on_device
from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder, named_size
from bertwright.tokenizer.load import load_tokenizer
from bertwright.verbs.finetune import finetune
from bertwright.verbs.prepare import prepare

TOPICS = 40
SYLLABLES = [first + vowel for first in "bcdfghjklmnprstvz" for vowel in "aeiou"]


class Language:
    """A drawn language: its words by rank, and a reordering of them for each topic."""

    def __init__(self, words: int, *, seed: int, topics: int = TOPICS) -> None:
        self.random = np.random.default_rng(seed)
        drawn = np.random.default_rng(0)  # the words are those of any seed
        counts = drawn.integers(1, 5, size=2 * words)
        picked = iter(np.array(SYLLABLES)[drawn.integers(len(SYLLABLES), size=counts.sum())].tolist())
        texts = ("".join(islice(picked, count)) for count in counts.tolist())
        self.words = np.array(list(dict.fromkeys(texts))[:words])
        weights = 1 / np.arange(1, len(self.words) + 1)
        self.ends = np.cumsum(weights / weights.sum())
        self.topics = [self.random.permutation(len(self.words)) for _ in range(topics)]

    def text(self, topic: int, count: int) -> str:
        """Return so many words in sentences; three in ten are of the topic's own order."""
        ranks = np.minimum(np.searchsorted(self.ends, self.random.random(count)), len(self.words) - 1)
        own = self.random.random(count) < 0.3
        words = self.words[np.where(own, self.topics[topic][ranks], ranks)].tolist()
        sentences, at = [], 0
        while at < count:
            length = int(self.random.integers(5, 25))
            sentences.append(" ".join(words[at : at + length]).capitalize() + ".")
            at += length
        return " ".join(sentences)

    def documents(self, file: Path, characters: float) -> None:
        """Write documents of 20 words or more, many short and some long, one JSON object a line."""
        written = 0
        with file.open("w", encoding="utf-8") as lines:
            while written < characters:
                topic = int(self.random.integers(len(self.topics)))
                text = self.text(topic, 20 + int(self.random.lognormal(5.2, 0.9)))
                lines.write(json.dumps({"text": text}) + "\n")
                written += len(text)

    def labelled(self, file: Path, count: int) -> None:
        """Write so many texts of 5 to 60 words with the half that their topic stands in."""
        with file.open("w", encoding="utf-8") as lines:
            lines.write("sentence\tlabel\n")
            for topic in self.random.integers(len(self.topics), size=count).tolist():
                text = self.text(topic, int(self.random.integers(5, 60)))
                lines.write(f"{text}\t{'late' if topic >= len(self.topics) / 2 else 'early'}\n")


def data(part: Part) -> None:
    """Write text and labelled files, prepare the text, and make a model folder of the size of base for the tasks."""
    folder = part.folder
    language = Language(3000 if part.toy else 80_000, seed=1)
    language.documents(folder / "text.jsonl", 6e5 if part.toy else 3e7)
    language.labelled(folder / "train.tsv", 400 if part.toy else 20_000)
    language.labelled(folder / "few.tsv", 64 if part.toy else 512)
    texts = [language.text(topic % TOPICS, 5 + topic % 60) for topic in range(200 if part.toy else 4000)]
    (folder / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    shutil.rmtree(folder / "domain", ignore_errors=True)  # of an earlier call, by its tokenizer
    prepare(
        [folder / "text.jsonl"], part.data, vocab_size=1000 if part.toy else 30_522, language="en", valid_fraction=0.02,
        overwrite=part.data.exists(),
    )  # fmt: skip
    tokenizer = load_tokenizer(part.data)
    part.tell(toy=part.toy, vocabulary=tokenizer.vocab_size, text_bytes=(folder / "text.jsonl").stat().st_size)
    torch.manual_seed(0)
    shape = named_size(part.size("base"), vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.special.pad)
    save_model(build_encoder(shape), part.data / "tokenizer", folder / "model")
    with on_device("auto"):
        finetune("classify", folder / "model", folder / "few.tsv", out=folder / "task", epochs=1, overwrite=True)
    part.cell("text made and prepared", round(part.details["text_bytes"] / 1e6, 1), unit="MB",
              also=f"vocabulary of {tokenizer.vocab_size:,}")  # fmt: skip


def other_text(part: Part) -> Path:
    """Return a DATA folder of another domain: other topics in the same words, with the same tokenizer."""
    folder = part.folder / "domain"
    if not (folder / "manifest.json").is_file():
        Language(3000 if part.toy else 80_000, seed=2).documents(part.folder / "domain.jsonl", 3e5 if part.toy else 1e7)
        prepare(
            [part.folder / "domain.jsonl"], folder, tokenizer=part.data / "tokenizer", language="en",
            valid_fraction=0.04,
        )  # fmt: skip
    return folder
