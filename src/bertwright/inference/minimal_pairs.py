"""Turns pairs of sentences that differ in one point of grammar into how often a model finds the good one more probable.

A sentence is as likely as its words are, each guessed from all the others: the pseudo-log-likelihood of Salazar et al.
(2020), "Masked Language Model Scoring", by which BLiMP (Warstadt et al., 2020) is scored for masked language models.
A model that finds replaced tokens guesses no words: to it a sentence is as likely as that none of its tokens was
replaced, one pass a sentence (compare Clark et al., 2020, "Pre-Training Transformers as Energy-Based Cloze Models").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from bertwright.corpus.readers.json_rows import json_objects
from bertwright.corpus.readers.rows import TableOptions
from bertwright.errors import CorpusError, InputError
from bertwright.inference.scoring import encoder_logits
from bertwright.model.bert_family import Electra
from bertwright.model.encoder import Encoder
from bertwright.tokenizer.load import Tokenizer

TOKENS = 16_384
"""Tokens a batch: rows of sentences of one length, each with another token masked."""


def read_minimal_pairs(file: Path, encoding: str | None = None) -> list[dict[str, str]]:
    """Return the objects of a JSON file of pairs: "good", "bad" and, where there are several, "field" and "paradigm".

    `file` is JSON lines, or one array (also .gz or .zst), as BLiMP is distributed. Raises CorpusError naming the pair,
    or the line, that is none.
    """
    if not file.is_file():
        raise CorpusError(f'there is no file {file}; give JSON lines with "good" and "bad" sentences')
    rows = (row for _, some in json_objects(file, TableOptions(encoding=encoding)) for row in some)
    pairs: list[dict[str, str]] = []
    for number, pair in enumerate(rows, start=1):
        try:
            fields: dict[str, str] = {name: str(pair[name]) for name in ("paradigm", "field") if name in pair}
            pairs.append({"good": str(pair["good"]), "bad": str(pair["bad"]), **fields})
        except KeyError as error:
            raise CorpusError(
                f'{file} pair {number:,} should be an object with "good" and "bad" sentences (it has no {error})'
            ) from error
    if not pairs:
        raise CorpusError(f'{file} is empty; give JSON lines with "good" and "bad" sentences')
    return pairs


def minimal_pair_accuracy(model: Encoder, tokenizer: Tokenizer, pairs: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Return how often the good sentence of a pair is the more probable one: the mean over paradigms, and by field.

    A tie counts as wrong. The model must be in evaluation mode. Raises InputError where a text is longer than the model
    reads or has no token.
    """
    finds_replaced = isinstance(model, Electra) and model.config.discriminator
    sums_of = log_unreplaced if finds_replaced else pseudo_log_likelihoods
    sums = sums_of(model, tokenizer, [pair[side] for pair in pairs for side in ("good", "bad")])
    by_paradigm, by_field = defaultdict(list), defaultdict(list)
    for pair, correct in zip(pairs, (sums[::2] > sums[1::2]).tolist(), strict=True):
        by_paradigm[pair.get("paradigm", "")].append(correct)
        by_field[pair.get("field", "")].append(correct)
    overall = mean(mean(of_paradigm) for of_paradigm in by_paradigm.values())
    return {"accuracy": overall, **{name: mean(by_field[name]) for name in sorted(by_field) if name}}


@torch.inference_mode()
def pseudo_log_likelihoods(model: Encoder, tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Return for each of N texts the sum of the log-probabilities (nats) of its tokens, each masked in turn, [N].

    The model must be in evaluation mode. A text is encoded as [CLS] text [SEP]; texts of a length share batches, so
    that nothing is padded. Raises InputError where a text is longer than the model reads or has no token.
    """
    sums = np.zeros(len(texts))
    for places, sentences in _batches(model, tokenizer, texts, each=True):
        count, length = sentences.shape
        rows = sentences.repeat(length - 2, axis=0)
        positions = np.tile(np.arange(1, length - 1), count)
        labels = rows[np.arange(len(rows)), positions]
        rows[np.arange(len(rows)), positions] = tokenizer.special.mask
        arrays = {
            "input_ids": rows,
            "token_type_ids": np.zeros_like(rows),
            "attention_mask": np.ones_like(rows, dtype=bool),
            "asked": positions[:, None],
        }
        logarithms = torch.log_softmax(encoder_logits(model, arrays, head="masked-token")[:, 0], -1)
        of_labels = logarithms.gather(1, torch.from_numpy(labels).to(logarithms.device)[:, None])
        sums[places] = of_labels.view(count, length - 2).sum(1).cpu().numpy()
    return sums


@torch.inference_mode()
def log_unreplaced(model: Encoder, tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Return for each of N texts the log-probability (nats) of a discriminator that no token of it was replaced, [N].

    That is the sum over its tokens, in the precision of the weights: in bf16 the logits of a young model are equal, and
    a tie is wrong. For the rest see `pseudo_log_likelihoods`.
    """
    assert isinstance(model, Electra)
    device = next(model.parameters()).device
    sums = np.zeros(len(texts))
    for places, sentences in _batches(model, tokenizer, texts, each=False):
        ids = torch.from_numpy(sentences).to(device)
        with torch.autocast(device.type, enabled=False):
            hidden = model.encode(ids, torch.zeros_like(ids), torch.ones_like(ids, dtype=torch.bool))
            logits = model.rtd_logits(hidden)[:, 1:-1].float()
        sums[places] = logsigmoid(-logits).sum(1).cpu().numpy()
    return sums


def _batches(
    model: Encoder, tokenizer: Tokenizer, texts: Sequence[str], *, each: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (places [B], ids [B, S]) of texts of one length, few enough for a batch, with `each` once each is masked.

    Raises InputError where a text is longer than the model reads or has no token.
    """
    encoded = [tokenizer.encode(text) for text in texts]
    for text, ids in zip(texts, encoded, strict=True):
        if not 0 < len(ids) <= model.config.max_positions - 2:
            raise InputError(
                f'"{text[:40]}" has {len(ids)} tokens; the model reads 1 to {model.config.max_positions - 2}'
            )
    lengths = np.array([len(ids) for ids in encoded])
    special = tokenizer.special
    for length in np.unique(lengths).tolist():
        places = np.flatnonzero(lengths == length)
        size = max(1, TOKENS // ((length + 2) * (length if each else 1)))
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            rows = [[special.cls, *encoded[place], special.sep] for place in chosen.tolist()]
            yield chosen, np.array(rows, dtype=np.int64)
