"""Turns a model just drawn into the one a run starts from: wholly from the corpus, or in part.

The parts are positions as sinusoids and words from their neighbours; the whole is `init = "cooccurrence"`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from bertwright.corpus.cooccurrence import NeighbourCounts
from bertwright.model.bert import BertForPreTraining
from bertwright.model.encoder import Encoder
from bertwright.model.encoder_config import EncoderConfig
from bertwright.model.init.from_corpus import start_from_corpus
from bertwright.model.init.layout import CorpusStatistics, layout_of
from bertwright.model.init.modern_from_corpus import ModernLayout, start_modern_from_corpus
from bertwright.model.init.neighbour_vectors import neighbour_vectors
from bertwright.model.init.noise import sinusoids
from bertwright.model.modernbert import ModernForMaskedLM
from bertwright.tokenizer.load import SpecialIds
from bertwright.types import MaskedBatch

POSITION_RMS = 0.05
"""Of sinusoidal positions. Words start at 0.02 and grow; after 3 minutes of size mini on English (111 MB), held out
loss is 6.39 nats at 0.05, 6.42 at 0.1 and 6.69 at 0.3."""
WORD_RMS = 0.2
"""Of words started from their neighbours. 300 steps of `fast` (size mini, English, 32 rows): 5.24 nats with noise, 4.80
at 0.02, 4.56 at 0.05, 4.39 at 0.1, 4.32 at 0.2."""
MEASURED_ROWS = 256
"""Rows on which a start from the corpus measures what depends on the text: two averages, a gain."""


def initialise(
    model: Encoder,
    config: EncoderConfig,
    counts: Callable[[], NeighbourCounts],
    *,
    special: SpecialIds,
    next_sentence: bool,
    examples: Callable[[], Sequence[MaskedBatch]],
) -> None:
    """Give a model just drawn the weights that its settings ask for, in place.

    `counts()` reads or counts the neighbours of words, in a thread, while `examples()` draws some masked rows of the
    corpus, of pairs with `next_sentence`. The thread draws from a second generator, which goes on from where
    torch's default one stands.
    """
    shape = model.config
    if config.sinusoidal_start and isinstance(model, BertForPreTraining):
        positions = sinusoids(shape.max_positions, shape.embedding_width, rms=POSITION_RMS)
        model.embeddings.positions.weight.detach().copy_(positions)
    generator = torch.Generator().set_state(torch.get_rng_state())
    ids = (special.pad, special.unk, special.cls, special.sep, special.mask)
    with ThreadPoolExecutor(1, "counting") as thread:
        if config.init == "cooccurrence" and isinstance(model, BertForPreTraining):
            statistics = thread.submit(_statistics, counts, layout_of(shape).words, generator)
            rows = examples()
            start_from_corpus(
                model, statistics.result(), special_ids=ids, cls=special.cls, next_sentence=next_sentence, examples=rows
            )
        elif config.init == "cooccurrence" and isinstance(model, ModernForMaskedLM):
            statistics = thread.submit(_statistics, counts, ModernLayout(shape.hidden_size).words, generator)
            rows = examples()
            start_modern_from_corpus(model, statistics.result(), special_ids=ids, examples=rows)
        elif config.neighbour_start:
            words, vectors = neighbour_vectors(counts(), width=shape.embedding_width, generator=generator)
            weight = model.word_embeddings.weight.detach()
            weight[words.to(weight.device)] = (vectors * WORD_RMS).to(weight.device)


def _statistics(counting: Callable[[], NeighbourCounts], width: int, generator: torch.Generator) -> CorpusStatistics:
    """Return what a model whose words have `width` dimensions starts from."""
    counts = counting()
    words, vectors = neighbour_vectors(counts, width=width, generator=generator)
    return CorpusStatistics(words, vectors, counts.frequencies, counts.tables)
