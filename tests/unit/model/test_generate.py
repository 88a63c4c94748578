"""Searches on decoders that a test can follow: scores that are known for every token and place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bertwright.model.config import BertConfig
from bertwright.model.decoder import Decoder, EncoderStates, KVCache
from bertwright.model.encoder_decoder import evenly_spaced
from bertwright.model.generate import SearchRules, write_texts

END = 3


class PlannedDecoder(Decoder):
    """A decoder whose next word depends on the last one alone, as a table [V, V] of probabilities says."""

    def __init__(self, table: dict[int, dict[int, float]]) -> None:
        super().__init__(BertConfig(vocab_size=8, hidden_size=8, layers=1, heads=1, intermediate_size=8))
        self.table = torch.full((8, 8), 1e-9)
        for last, shares in table.items():
            for token, share in shares.items():
                self.table[last, token] = share
        self.asked: list[int] = []

    def next_logits(self, ids: Tensor, place: int, past: list[KVCache], memory: EncoderStates) -> Tensor:
        super().next_logits(ids, place, past, memory)
        assert past[0].keys.shape[2] == place + 1
        assert past[0].keys.shape[0] == ids.numel(), "what is remembered belongs to the texts that go on"
        self.asked.append(len(ids))
        return self.table[ids].log()


def memory(decoder: Decoder, count: int) -> EncoderStates:
    return decoder.encoder_states(torch.zeros(count, 2, 8), torch.ones(count, 2, dtype=torch.bool))


def test_beams_find_what_greed_passes_by() -> None:
    """2 -> 4 is more probable than 2 -> 5, but 5 ends surely and 4 in one of many ways."""
    ways = {2: {4: 0.6, 5: 0.4}, 4: {6: 0.3, 7: 0.3, END: 0.2}, 5: {END: 1.0}, 6: {END: 1.0}, 7: {END: 1.0}}
    decoder = PlannedDecoder(ways)
    assert write_texts(decoder, memory(decoder, 2), SearchRules(2, END, 9)) == [[4, 6], [4, 6]]
    assert write_texts(decoder, memory(decoder, 2), SearchRules(2, END, 9, beams=2)) == [[5], [5]]


@pytest.mark.parametrize(("penalty", "text"), [(0.0, [4]), (2.0, [5, 6, 7])])
def test_a_length_penalty_asks_for_longer_texts(penalty: float, text: list[int]) -> None:
    decoder = PlannedDecoder({2: {4: 0.5, 5: 0.4}, 4: {END: 1.0}, 5: {6: 0.9}, 6: {7: 0.9}, 7: {END: 1.0}})
    rules = SearchRules(2, END, 9, beams=3, length_penalty=penalty)
    assert write_texts(decoder, memory(decoder, 1), rules) == [text]


@pytest.mark.parametrize("beams", [1, 3])
def test_no_text_is_longer_than_allowed_and_none_is_asked_about_when_done(beams: int) -> None:
    decoder = PlannedDecoder({2: {4: 1.0}, 4: {4: 1.0}})
    assert write_texts(decoder, memory(decoder, 1), SearchRules(2, END, 5, beams=beams)) == [[4, 4, 4, 4]]
    quick = PlannedDecoder({2: {END: 0.99, 4: 0.01}, 4: {4: 0.01, END: 0.99}})
    assert write_texts(quick, memory(quick, 3), SearchRules(2, END, 40, beams=beams)) == [[], [], []]
    assert len(quick.asked) <= 1 + beams


def test_fewer_blocks_are_evenly_spaced() -> None:
    assert evenly_spaced(12, 3) == [3, 7, 11]
    assert evenly_spaced(4, 4) == [0, 1, 2, 3]
    assert evenly_spaced(2, 3) == [0, 1, 0]
