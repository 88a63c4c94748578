"""Turns a file into a probe: a figure about what an encoder knows, measured again and again while it is pre-trained.

    minimal pairs   how often the good sentence is more probable than the bad one (see minimal_pairs.py)
    labelled texts  how well a logistic regression tells the classes apart by the mean of the last hidden states, the
                    encoder frozen (Alain and Bengio, 2016, "Understanding Intermediate Layers Using Linear Classifier
                    Probes")

What is in the file says which of the two it is. A probe reads the same examples each time, and few enough to be cheap.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertwright.corpus.readers.json_rows import json_objects
from bertwright.corpus.readers.rows import TableOptions
from bertwright.data.labelled.dev_split import dev_rows
from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import CorpusError
from bertwright.inference.batching import vectors_of
from bertwright.inference.minimal_pairs import minimal_pair_accuracy, read_minimal_pairs
from bertwright.inference.scoring import Cast, vector_policy
from bertwright.model.encoder import Encoder
from bertwright.model.sentence_encoder import mean_of
from bertwright.tasks.base import TrainFile
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import Tokenizer

PAIRS, TEXTS = 512, 1000
"""Minimal pairs and labelled texts of a probe at most, evenly spread over its file. Chance alone moves an accuracy of
70% by 2.0 points with so many pairs, and by 2.6 with so many texts, of which those held out count."""
LONGEST = 128
"""Tokens of a text that are read."""
HELD_OUT = 0.3
"""Fraction of the texts that the regression is not fitted on, but measured by."""
INVERSE_PENALTY = 0.01
"""C of the regression, over features of variance one: the features are nearly as many as the texts. MiniLM on SST-2 and
TREC: 67.6% and 76.0% at 1, 70.6% and 77.7% at 0.1, 74.4% and 80.0% at 0.01, 76.3% and 76.7% at 0.001."""
JSON = (".json", ".jsonl")


@dataclass(frozen=True)
class Probe(ABC):
    """A figure that is measured along a run.

    name    of its file
    chance  the accuracy of knowing nothing
    tokens  that the encoder reads each time
    """

    name: str
    chance: float
    tokens: int

    @property
    @abstractmethod
    def kind(self) -> str:
        """What is measured, in words."""

    @abstractmethod
    def measure(self, model: Encoder, *, cast: Cast = nullcontext) -> float:
        """Return the accuracy of the model, in evaluation mode, as it is now."""


@dataclass(frozen=True)
class MinimalPairProbe(Probe):
    """How often the good sentence of a pair is more probable than the bad one: the mean over paradigms."""

    pairs: Sequence[dict[str, str]]
    tokenizer: Tokenizer

    @property
    def kind(self) -> str:
        """What is measured, in words."""
        return f"{len(self.pairs):,} minimal pairs"

    def measure(self, model: Encoder, *, cast: Cast = nullcontext) -> float:
        """Return the accuracy of the model, in evaluation mode, as it is now."""
        with cast():
            return minimal_pair_accuracy(model, self.tokenizer, self.pairs)["accuracy"]


@dataclass(frozen=True)
class ClassifierProbe(Probe):
    """How well a logistic regression over features of the frozen encoder tells classes apart, on rows held out."""

    rows: LabelledRows
    held_out: np.ndarray

    @property
    def kind(self) -> str:
        """What is measured, in words."""
        classes = len(np.unique(self.rows.targets))
        return f"{classes} classes of {len(self.rows):,} texts, the encoder frozen"

    def measure(self, model: Encoder, *, cast: Cast = nullcontext) -> float:
        """Return the accuracy of a regression fitted now on what the model gives, in evaluation mode."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features = mean_states(model, self.rows, cast=cast)
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=200))
        fitted, measured, classes = ~self.held_out, self.held_out, self.rows.targets
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is as good here
            classifier.fit(features[fitted], classes[fitted])
        return float(classifier.score(features[measured], classes[measured]))


def mean_states(model: Encoder, rows: LabelledRows, *, cast: Cast = nullcontext) -> np.ndarray:
    """Return the mean [N, H] float32 of the last hidden states of N rows, in their order."""
    device = next(model.parameters()).device

    def forward(arrays: dict[str, np.ndarray]) -> np.ndarray:
        ids, types, mask = (
            torch.from_numpy(arrays[name]).to(device) for name in ("input_ids", "token_type_ids", "attention_mask")
        )
        with torch.inference_mode(), cast():
            hidden = model.encode(ids, types, mask).float()
        means: np.ndarray = mean_of(hidden, mask.unsqueeze(-1)).cpu().numpy()
        return means

    return vectors_of(forward, rows, width=model.config.hidden_size, policy=vector_policy(device))


def open_probes(files: Sequence[Path], tokenizer: Tokenizer, *, longest: int) -> list[Probe]:
    """Return the probe of each file, of texts of up to `longest` tokens; raises CorpusError where one holds no such."""
    stems = [file.name.split(".")[0] for file in files]
    names = [stem if stems.count(stem) == 1 else f"{stem}-{place}" for place, stem in enumerate(stems, start=1)]
    return [open_probe(file, tokenizer, name=name, longest=longest) for file, name in zip(files, names, strict=True)]


def open_probe(file: Path, tokenizer: Tokenizer, *, name: str, longest: int) -> Probe:
    """Return the probe of a file: of minimal pairs, where it is JSON with "good" and "bad", else of labelled texts."""
    if not file.is_file():
        raise CorpusError(f"there is no file {file}; give --probe minimal pairs in JSON lines, or labelled texts")
    if _holds_pairs(file):
        every = [pair for pair in read_minimal_pairs(file) if _fits(pair, tokenizer, longest)]
        pairs = [every[place] for place in _spread(len(every), PAIRS).tolist()]
        if not pairs:
            raise CorpusError(f"{file} has no pair of sentences of up to {longest - 2} tokens, which the model reads")
        lengths = [len(tokenizer.encode(pair[side])) for pair in pairs for side in ("good", "bad")]
        tokens = sum(length * (length + 2) for length in lengths)  # a row for each token, masked
        return MinimalPairProbe(name, chance=0.5, tokens=tokens, pairs=pairs, tokenizer=tokenizer)
    return _classifier_probe(file, tokenizer, name=name, longest=longest)


def _classifier_probe(file: Path, tokenizer: Tokenizer, *, name: str, longest: int) -> ClassifierProbe:
    task, splits = Classify.from_train_file(TrainFile(file))
    every = splits["train"]
    examples = every.take(_spread(len(every), TEXTS))
    try:
        held_out = dev_rows(examples.keys(), examples.targets, fraction=HELD_OUT)
    except ValueError as error:
        raise CorpusError(f"{file} has too few labelled texts for a probe; give some of each class") from error
    rows = task.encode(examples, TextEncoder(tokenizer, max_length=min(LONGEST, longest))).rows
    commonest = Counter(examples.targets[held_out].tolist()).most_common(1)[0][1]
    chance = commonest / int(held_out.sum())
    return ClassifierProbe(name, chance=chance, tokens=int(rows.lengths.sum()), rows=rows, held_out=held_out)


def _holds_pairs(file: Path) -> bool:
    """Say whether the first object of a file is a pair of sentences."""
    if not any(suffix in JSON for suffix in file.suffixes):
        return False
    _, some = next(json_objects(file, TableOptions()), (0, []))
    return bool(some) and {"good", "bad"} <= some[0].keys()


def _fits(pair: dict[str, str], tokenizer: Tokenizer, longest: int) -> bool:
    """Say whether the model reads both sentences."""
    return all(0 < len(tokenizer.encode(pair[side])) <= longest - 2 for side in ("good", "bad"))


def _spread(count: int, most: int) -> np.ndarray:
    """Return up to `most` of the places 0 to `count` - 1, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
