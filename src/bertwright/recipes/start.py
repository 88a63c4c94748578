"""Turns a model just drawn into the one a run starts from: positions as sinusoids, words from their neighbours."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from bertwright.data.neighbours import NeighbourCounts, neighbour_vectors
from bertwright.model.bert import BertForPreTraining
from bertwright.model.encoder import Encoder
from bertwright.model.init.drawn import sinusoids
from bertwright.recipes.settings import EncoderConfig

POSITION_RMS = 0.05
"""Of sinusoidal positions. Words start at 0.02 and grow; after 3 minutes of size mini on English (111 MB), held out
loss is 6.39 nats at 0.05, 6.42 at 0.1 and 6.69 at 0.3."""
WORD_RMS = 0.2
"""Of words started from their neighbours. 300 steps of `fast` (size mini, English, 32 rows): 5.24 nats with noise, 4.80
at 0.02, 4.56 at 0.05, 4.39 at 0.1, 4.32 at 0.2."""


def as_they_are() -> None:
    """Leave the weights as they are."""


@torch.no_grad()
def begin_weights(
    model: Encoder, config: EncoderConfig, counts: Callable[[], NeighbourCounts]
) -> Callable[[], None]:  # fmt: skip
    """Start positions as sinusoids; begin to make vectors of words, and return what starts words from them.

    Each where the settings say so; `counts()` reads or counts the neighbours of words. That goes on in a thread, beside
    the compilation of the step, which asks for the shapes of weights alone; what is returned waits for it. The thread
    draws from a generator of its own, which goes on from where torch's default one stands now: what others draw
    meanwhile changes nothing.
    """
    shape = model.config
    if config.sinusoidal_start and isinstance(model, BertForPreTraining):
        model.embeddings.positions.weight.copy_(sinusoids(shape.max_positions, shape.hidden_size, rms=POSITION_RMS))
    if not config.neighbour_start:
        return as_they_are
    generator = torch.Generator().set_state(torch.get_rng_state())
    thread = ThreadPoolExecutor(1, "counting")
    found = thread.submit(lambda: neighbour_vectors(counts(), width=shape.hidden_size, generator=generator))
    thread.shutdown(wait=False)

    @torch.no_grad()
    def start_words() -> None:
        words, vectors = found.result()
        weight = model.word_embeddings.weight
        weight[words.to(weight.device)] = (vectors * WORD_RMS).to(weight.device)

    return start_words
