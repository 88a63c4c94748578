"""A start from the corpus, for every shape of model: heads find neighbours, words and pairs are predicted at once.

The text is made up: word 2k is followed by 2k + 1 nearly always, and each document keeps to its own tenth of the words.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bertwright.corpus.cooccurrence import NeighbourCounts, count_neighbours
from bertwright.corpus.shards import DocumentBlock, Shard, Shards, write_shard
from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import BertConfig, ModernConfig
from bertwright.model.init.from_corpus import look_at_offset, offsets_by_block, start_from_corpus
from bertwright.model.init.layout import CorpusStatistics, layout_of, rarities, start_embeddings
from bertwright.model.init.modern_from_corpus import ModernLayout, start_modern_from_corpus
from bertwright.model.init.neighbour_maps import neighbour_maps
from bertwright.model.init.neighbour_vectors import neighbour_vectors
from bertwright.model.init.segment_averages import last_states
from bertwright.model.layers.attention import rotate
from bertwright.model.modernbert import ModernForMaskedLM
from bertwright.objectives.mlm import MaskedLanguageModel
from bertwright.types import Batch, MaskedBatch, Scores

WORDS, TOPICS = 400, 10
SHAPES = {  # layers, width, heads, inner layer
    "tiny": (2, 128, 2, 512),
    "mini": (4, 256, 4, 1024),
    "a width that is no multiple of 64": (2, 160, 5, 320),
    "64 less than it is no multiple of a head": (3, 168, 4, 512),
    "more heads than neighbours": (2, 192, 12, 256),
    "one block": (1, 128, 2, 256),
    "one head": (2, 64, 1, 128),
    "small heads and a small inner layer": (2, 64, 4, 40),
}


def document(rng: np.random.Generator, topic: int, pairs: int) -> np.ndarray:
    """Return 2 `pairs` word numbers: an even one of the topic, then, nine times of ten, the next one."""
    size = WORDS // TOPICS // 2
    even = 2 * (topic * size + rng.integers(0, size, pairs))
    odd = np.where(rng.random(pairs) < 0.9, even + 1, rng.integers(0, WORDS, pairs))
    return np.stack([even, odd], axis=1).ravel()


class Corpus:
    """Counts and rows of the made-up text; special tokens have the ids from `special` on, words all others."""

    def __init__(self, folder: Path, *, vocab_size: int = WORDS + 5, special: int = 0) -> None:
        self.special = [special + place for place in range(5)]  # pad, unk, cls, sep, mask
        self.cls, self.vocab_size = self.special[2], vocab_size
        self.ids = np.array([token for token in range(WORDS + 5) if token not in self.special])
        self.rng = np.random.default_rng(0)
        documents = [self.ids[document(self.rng, index % TOPICS, 60)] for index in range(300)]
        counts = np.array([len(one) for one in documents], dtype=np.int64)
        block = DocumentBlock(
            tokens=np.concatenate(documents).astype(np.uint16),
            token_counts=counts,
            sentence_ends=counts.astype(np.uint32),
            sentence_counts=np.ones(len(counts), dtype=np.int64),
            word_starts=np.ones(int(counts.sum()), dtype=bool),
        )
        write_shard(folder / "train-00000.arrow", block)
        shards = Shards([Shard.open(folder / "train-00000.arrow")], fingerprint="test")
        self.counts: NeighbourCounts = count_neighbours(shards, vocab_size)

    def statistics(self, width: int) -> CorpusStatistics:
        """Return what a model whose words have `width` dimensions starts from."""
        generator = torch.Generator().manual_seed(1)
        words, vectors = neighbour_vectors(self.counts, width=width, generator=generator)
        return CorpusStatistics(words, vectors, self.counts.frequencies, self.counts.tables)

    def example(self, rows: int, *, seed: int, length: int = 64) -> MaskedBatch:
        """Return masked rows [CLS] A [SEP] B [SEP], half of them of one topic in both segments."""
        rng, half = np.random.default_rng(seed), (length - 3) // 4
        labels = rng.integers(0, 2, rows)
        ids = np.full((rows, length), self.special[0])
        types = np.zeros((rows, length), dtype=np.int64)
        _, _, cls, sep, _ = self.special
        for row, label in enumerate(labels):
            topic = int(rng.integers(0, TOPICS))
            other = (topic + int(label) * int(rng.integers(1, TOPICS))) % TOPICS
            first, second = document(rng, topic, half), document(rng, other, half)
            tokens = [cls, *self.ids[first], sep, *self.ids[second], sep]
            ids[row, : len(tokens)] = tokens
            types[row, 2 + 2 * half : len(tokens)] = 1
        batch = Batch(
            input_ids=torch.from_numpy(ids),
            token_type_ids=torch.from_numpy(types),
            attention_mask=torch.from_numpy(ids != self.special[0]),
            maskable=torch.from_numpy(~np.isin(ids, self.special)),
            word_starts=torch.from_numpy(~np.isin(ids, self.special)),
            next_label=torch.from_numpy(labels),
        )
        masking = MaskedLanguageModel(vocab_size=WORDS, mask_id=self.special[4])
        return masking.corrupt(batch, torch.Generator().manual_seed(seed), 1.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))


def drawn(shape: tuple[int, int, int, int], *, vocab_size: int = WORDS + 5, dropout: float = 0.0) -> BertForPreTraining:
    torch.manual_seed(3)
    layers, width, heads, inner = shape
    return BertForPreTraining(
        BertConfig(
            vocab_size=vocab_size, layers=layers, hidden_size=width, heads=heads, intermediate_size=inner,
            dropout=dropout, attention_dropout=dropout,
        )
    )  # fmt: skip


def started(model: BertForPreTraining, corpus: Corpus, *, next_sentence: bool = True) -> BertForPreTraining:
    examples = [corpus.example(64, seed=seed) for seed in (1, 2, 3, 4)]
    start_from_corpus(
        model, corpus.statistics(layout_of(model.config).words), special_ids=corpus.special, cls=corpus.cls,
        next_sentence=next_sentence, examples=examples,
    )  # fmt: skip
    return model


@torch.inference_mode()
def figures(model: BertForPreTraining, example: MaskedBatch) -> tuple[float, float]:
    """Return the loss of masked words in nats and the share of pairs evaluated rightly."""
    scores: Scores = model.eval()(example)
    assert scores.nsp is not None
    assert example.next_label is not None
    used = example.masked_weights > 0
    loss = torch.nn.functional.cross_entropy(scores.mlm[used].float(), example.masked_labels[used])
    return float(loss), float((scores.nsp.argmax(-1) == example.next_label).float().mean())


def unigram_loss(corpus: Corpus, example: MaskedBatch) -> float:
    """Return the loss in nats of one who knows how frequent each word is, and nothing else."""
    share = torch.from_numpy(corpus.counts.frequencies / corpus.counts.frequencies.sum())
    return float(-share[example.masked_labels[example.masked_weights > 0]].log().mean())


def entropy(corpus: Corpus) -> float:
    share = corpus.counts.frequencies[corpus.counts.frequencies > 0] / corpus.counts.frequencies.sum()
    return float(-(share * np.log(share)).sum())


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_of_any_shape_predicts_before_its_first_step(corpus: Corpus, name: str) -> None:
    """On 300 unseen rows, beside the shares of words on the same rows; half of the pairs are random.

    A share of 0.5 has a standard error of 0.03 here, so that 0.65 is five of them above a guess.
    """
    model = started(drawn(SHAPES[name]), corpus)
    example = corpus.example(300, seed=9)
    loss, right = figures(model, example)
    assert loss < unigram_loss(corpus, example) - 0.01
    compares = name not in ("one head", "one block")
    assert (right > 0.65) == compares


@pytest.mark.parametrize("length", [64, 512])
@pytest.mark.parametrize("segment", [0, 1])
def test_a_head_looks_at_its_neighbour_wherever_it_stands(corpus: Corpus, length: int, segment: int) -> None:
    model = drawn(SHAPES["mini"])
    layout, attention = layout_of(model.config), model.block(0).attention
    start_embeddings(model, corpus.statistics(layout_of(model.config).words), layout, corpus.special)
    offsets = (-1, 1, -2, 2)
    for head, offset in enumerate(offsets):
        look_at_offset(attention, head, offset, layout)
    ids = torch.from_numpy(corpus.rng.choice(corpus.ids, (2, length)))
    ids[:, ::7] = corpus.special[4]
    with torch.inference_mode():
        hidden = model.eval().embeddings(ids, torch.full_like(ids, segment))
        query, key, _ = attention._project(hidden, None)
        shares = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)
    place = torch.arange(4, length - 4)
    for head, offset in enumerate(offsets):
        assert (shares[:, head, place].argmax(-1) == place + offset).float().mean() > 0.9
        assert shares[:, head, place, place + offset].mean() > 0.3


def test_later_blocks_change_nothing_yet(corpus: Corpus) -> None:
    model, example = started(drawn((6, 128, 2, 256)), corpus).eval(), corpus.example(8, seed=5)
    with torch.inference_mode():
        rows = (example.input_ids, example.token_type_ids, example.attention_mask)
        second, last = model.hidden_states(*rows, layer=2), model.hidden_states(*rows, layer=6)
    assert not torch.allclose(model.hidden_states(*rows, layer=1), second, atol=0.1)
    torch.testing.assert_close(last, second, atol=2e-3, rtol=1e-3)


def test_states_of_packed_rows_are_those_of_their_documents(corpus: Corpus) -> None:
    """The start measures rows as they are trained on: here the second half is a text of its own."""
    model, example = started(drawn((4, 64, 4, 128)), corpus).eval(), corpus.example(8, seed=5)
    packed = replace(example, documents=(1 + (torch.arange(64) >= 32)) * example.attention_mask)
    with torch.inference_mode():
        found = last_states(model, packed, blocks=2)
        own = model.hidden_states(
            example.input_ids[:, 32:], example.token_type_ids[:, 32:], example.attention_mask[:, 32:], layer=2
        )
    here = example.attention_mask[:, 32:]
    torch.testing.assert_close(found[:, 32:][here], own[here], atol=2e-3, rtol=1e-3)


def test_special_tokens_may_have_any_ids(tmp_path: Path) -> None:
    """As with BPE and Unigram vocabularies, whose specials stand elsewhere."""
    corpus = Corpus(tmp_path, special=100)
    model = started(drawn(SHAPES["tiny"]), corpus)
    loss, right = figures(model, corpus.example(300, seed=9))
    assert loss < entropy(corpus) - 0.03
    assert right > 0.65
    words, layout = model.word_embeddings.weight, layout_of(model.config)
    assert not words[corpus.special, : layout.words].any()
    assert torch.nonzero(words[:, layout.marker]).flatten().tolist() == [corpus.cls]


def test_words_that_were_not_counted_stay_as_drawn(tmp_path: Path) -> None:
    """A vocabulary above the counted words, here one with 200 that never occur, in fewer words than dimensions."""
    corpus = Corpus(tmp_path, vocab_size=WORDS + 205)
    model = drawn((2, 512, 8, 1024), vocab_size=WORDS + 205)
    before = model.word_embeddings.weight.detach().clone()
    started(model, corpus)
    after, width = model.word_embeddings.weight.detach(), layout_of(model.config).words
    assert width > WORDS
    assert torch.equal(after[WORDS + 5 :, :width], before[WORDS + 5 :, :width])
    assert torch.isfinite(torch.cat([part.flatten() for part in model.parameters()])).all()
    assert figures(model, corpus.example(200, seed=9))[0] < entropy(corpus) - 0.03


def test_without_pairs_every_head_is_for_a_neighbour(corpus: Corpus) -> None:
    model = started(drawn(SHAPES["mini"]), corpus, next_sentence=False)
    assert offsets_by_block(model.config, next_sentence=False) == [[-1, 1, -2, 2], [-3, 3, -4, 4]]
    assert offsets_by_block(model.config, next_sentence=True) == [[-1, 1], [-2, 2, -3, 3]]
    assert not model.block(0).outer.weight.any()
    assert figures(model, corpus.example(200, seed=9))[0] < entropy(corpus) - 0.03


def test_the_start_draws_nothing_and_leaves_the_mode(corpus: Corpus) -> None:
    model = drawn(SHAPES["tiny"], dropout=0.5).train()
    before = torch.get_rng_state()
    started(model, corpus)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    once: Tensor = model.mlm_head.norm.weight.detach().clone()
    assert torch.equal(once, started(drawn(SHAPES["tiny"]), corpus).mlm_head.norm.weight)


def test_maps_are_the_regression_on_pairs_written_out(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """One offset, no ridge to speak of: least squares over every pair of neighbours, in full rank."""
    monkeypatch.setattr("bertwright.model.init.neighbour_maps.RIDGE", 1e-6)
    statistics = corpus.statistics(92)
    width = 12
    vectors = statistics.vectors[:, :width]
    few = CorpusStatistics(statistics.words, vectors, statistics.frequencies, statistics.tables)
    back, into = neighbour_maps(few, [1], rank=width)[1]
    table = torch.from_numpy(statistics.tables[1].toarray()).double()
    first, second = torch.nonzero(table, as_tuple=True)
    weights = table[first, second].sqrt()[:, None]
    share = torch.from_numpy(few.frequencies[few.words.numpy()]).double()
    share = share / share.sum()
    centred = vectors.double() - (share[:, None] * vectors.double()).sum(0)
    fitted = torch.linalg.lstsq(centred[second] * weights, centred[first] * weights).solution.T
    covariance = (centred * share[:, None]).T @ centred
    expected = torch.linalg.solve(covariance, fitted)
    found = (back @ into).double()
    likeness = (found * expected).sum() / (found.norm() * expected.norm())
    assert likeness > 0.97  # the ridge, and the ends of documents, make the rest


def test_rare_words_are_rare() -> None:
    found = rarities(np.array([0, 1000, 100, 10, 1000]))
    assert found[0] >= found[3] > found[2] > found[1] == found[4]
    assert (found * torch.tensor([0, 1000, 100, 10, 1000]) / 2110).sum().abs() < 1e-5


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("global_every", [1, 3])
def test_a_modern_model_of_any_shape_predicts_words_before_its_first_step(
    corpus: Corpus, name: str, global_every: int
) -> None:
    """On 200 unseen rows, where the unigram model has 5.99 nats (standard error 0.02)."""
    layers, width, heads, inner = SHAPES[name]
    torch.manual_seed(3)
    model = ModernForMaskedLM(
        ModernConfig(
            vocab_size=WORDS + 5, layers=layers, hidden_size=width, heads=heads, intermediate_size=inner,
            global_every=global_every,
        )
    )  # fmt: skip
    before, examples = torch.get_rng_state(), [corpus.example(64, seed=seed) for seed in (1, 2)]
    statistics = corpus.statistics(ModernLayout(model.config.hidden_size).words)
    start_modern_from_corpus(model, statistics, special_ids=corpus.special, examples=examples)
    assert torch.equal(torch.get_rng_state(), before)
    example = corpus.example(200, seed=9)
    with torch.inference_mode():
        used, logits = example.masked_weights > 0, model.eval()(example).mlm
    loss = torch.nn.functional.cross_entropy(logits[used].float(), example.masked_labels[used])
    assert float(loss) < entropy(corpus) - 0.03


def test_heads_of_a_modern_model_look_at_their_neighbour(corpus: Corpus) -> None:
    torch.manual_seed(3)
    model = ModernForMaskedLM(
        ModernConfig(vocab_size=WORDS + 5, layers=2, hidden_size=256, heads=4, intermediate_size=512)
    )
    examples = [corpus.example(64, seed=1)]
    statistics = corpus.statistics(ModernLayout(model.config.hidden_size).words)
    start_modern_from_corpus(model, statistics, special_ids=corpus.special, examples=examples)
    ids = torch.from_numpy(corpus.rng.choice(corpus.ids, (2, 512)))
    ids[:, ::7] = corpus.special[4]
    attention, place = model.blocks[0].attention, torch.arange(4, 508)
    with torch.inference_mode():
        query, key, _ = attention._project(model.embeddings(ids), None)
        angles = model.get_buffer("global_rotation")
        shares = (rotate(query, angles) @ rotate(key, angles).mT / 8).softmax(-1)
    for head, offset in enumerate((-1, 1, -2, 2)):
        assert (shares[:, head, place].argmax(-1) == place + offset).float().mean() > 0.9
