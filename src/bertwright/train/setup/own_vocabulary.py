"""Turns the held-out text of a run with another vocabulary into the loss that its first model has with its own tokens.

What the change of vocabulary cost, before any training made up for it, is the difference in nats a byte between this
and the first evaluation of the run, which is of the same model with its vectors moved to the new tokens.
"""

from __future__ import annotations

import numpy as np
import torch

from bertwright.corpus.manifest import bytes_per_token
from bertwright.data.pretraining.dataset import Dataset
from bertwright.log import note
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.train.held_out import fixed_batches, held_out_figures, masked_batches, with_nats_per_byte
from bertwright.train.setup.init_from import Start
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.step import Engine
from bertwright.types import Batch

PROBE = "She didn't print(a.b) to Mr. Smith, but the rest (a third) was left to him."
"""A text with what vocabularies treat in different ways: capitals, and signs with and without spaces beside them."""


def own_vocabulary_figures(start: Start, dataset: Dataset, config: PretrainConfig, engine: Engine) -> dict[str, float]:
    """Return mlm_loss, mlm_accuracy and mlm_nats_per_byte of a model with its own tokens, on text of the first folder.

    The text is that of rows which `evaluate mlm` takes, in the model's own tokens, and as many of these at most: it may
    know no positions beyond. A byte is counted as in the figures of the run: the tokens of these rows with both
    vocabularies say how many of the one stand for one of the other. Empty where the data have the model's vocabulary or
    no held-out split, where it has no masked-token head, where whole Chinese words are masked, which its tokens say
    nothing of, and where the new vocabulary does not keep what the old one reads. The processes of a run share
    the rows.
    """
    shards, whole_word = dataset.valid[0], config.objective.whole_word
    unknown_words = whole_word and dataset.manifest.get("language") == "zh"
    if start.vocabulary is None or shards is None or start.report.lacks("mlm_head") or unknown_words:
        return {}
    own = load_tokenizer(start.folder)
    if not kept(dataset.tokenizer, own):
        note(f"{start.folder} is not evaluated with its own vocabulary: the new one does not keep case or spaces")
        return {}
    objective = build_objective(
        ObjectiveConfig(names=("mlm",), whole_word=whole_word), vocab_size=own.vocab_size, mask_id=own.special.mask
    )
    length = config.schedule.phases[0].length
    batches = fixed_batches(shards, dataset.tokenizer, length=length, rows=config.engine.evaluation_rows)
    texts = [text for batch in batches for text in texts_of(batch, dataset.tokenizer)]
    size, longest = len(batches[0].input_ids), min(length, start.model.config.max_positions)
    encoded = [rows_of(texts[first : first + size], own, longest=longest) for first in range(0, len(texts), size)]
    of_run, of_own = sum(int(batch.maskable.sum()) for batch in batches), sum(count for _, count in encoded)
    size_of_run = bytes_per_token(dataset.manifests[0], "valid")
    examples = masked_batches(objective, [batch for batch, _ in encoded])
    try:
        found = held_out_figures(
            start.model.to(engine.device), objective, examples, device=engine.device, cast=engine.cast,
            group=engine.group,
        )  # fmt: skip
    finally:
        start.model.cpu()
    figures = with_nats_per_byte(found, None if size_of_run is None else size_of_run * of_run / of_own)
    shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    note(f"{start.folder} with its own vocabulary on this text: {shown}")
    return figures


def kept(tokenizer: Tokenizer, own: Tokenizer) -> bool:
    """Say whether a text that a tokenizer gives back has the tokens of another that the text itself has."""
    return own.encode(tokenizer.decode(tokenizer.encode(PROBE))) == own.encode(PROBE)


def texts_of(batch: Batch, tokenizer: Tokenizer) -> list[str]:
    """Return the text of each row."""
    return [tokenizer.decode(ids[words].tolist()) for ids, words in zip(batch.input_ids, batch.maskable, strict=True)]


def rows_of(texts: list[str], tokenizer: Tokenizer, *, longest: int) -> tuple[Batch, int]:
    """Return texts as rows of at most `longest` tokens, and how many tokens the texts have, those cut off included."""
    special, encodings = tokenizer.special, tokenizer.backend.encode_batch(texts, add_special_tokens=False)
    lengths = [min(len(one.ids), longest - 2) for one in encodings]
    shape = (len(texts), max(lengths) + 2)
    ids, maskable, starts = np.full(shape, special.pad), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for row, (encoding, length) in enumerate(zip(encodings, lengths, strict=True)):
        words = np.array([-1 if word is None else word for word in encoding.word_ids[:length]], dtype=np.int64)
        ids[row, : length + 2] = [special.cls, *encoding.ids[:length], special.sep]
        maskable[row, 1 : length + 1] = True
        starts[row, 1 : length + 1] = np.diff(words, prepend=-2) != 0
    attention = np.arange(shape[1]) < np.array(lengths)[:, None] + 2
    batch = Batch(
        input_ids=torch.from_numpy(ids),
        token_type_ids=torch.zeros(shape, dtype=torch.int64),
        attention_mask=torch.from_numpy(attention),
        maskable=torch.from_numpy(maskable),
        word_starts=torch.from_numpy(starts),
    )
    return batch, sum(len(one.ids) for one in encodings)
