"""Writes the text a decoder finds most probable: greedily, or by beam search with a length penalty.

Both give what `generate` of transformers gives on the same folder: greedy search with num_beams=1, beam search with
early_stopping=False (see `BeamSearch`). Texts about several sources are written at once; a source whose text is
finished leaves the batch, and keys and values of what is written are kept, so that each token is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bertwright.model.decoder import Decoder, EncoderStates, KVCache

LOWEST_SCORE = -1e9
"""The score of what must not be chosen."""


@dataclass(frozen=True)
class SearchRules:
    """How texts are written.

    begin, end      ids of the token every text begins with, and of the one that ends it
    max_length      most tokens of a text, both of these included
    beams           texts kept for each source; 1 is greedy
    length_penalty  a text of n tokens, the end included, scores its log probability / n ** length_penalty
    """

    begin: int
    end: int
    max_length: int
    beams: int = 1
    length_penalty: float = 1.0


@torch.inference_mode()
def write_texts(decoder: Decoder, memory: EncoderStates, rules: SearchRules) -> list[list[int]]:
    """Return the token ids of a text for each source, without the beginning and the end token."""
    found = BeamSearch(decoder, memory, rules).run() if rules.beams > 1 else _greedy(decoder, memory, rules)
    return [_inside(ids, rules) for ids in found]


def _inside(ids: list[int], rules: SearchRules) -> list[int]:
    return ids[: ids.index(rules.end)] if rules.end in ids else ids


def _greedy(decoder: Decoder, memory: EncoderStates, rules: SearchRules) -> list[list[int]]:
    """Take the most probable token each time, until the end token or the longest length."""
    count = len(memory.bias)
    written = torch.full((count, rules.max_length - 1), rules.end, device=memory.bias.device)
    open_rows = torch.arange(count, device=memory.bias.device)
    ids = torch.full((count, 1), rules.begin, device=memory.bias.device)
    cache: list[KVCache] = []
    for position in range(rules.max_length - 1):
        chosen = decoder.next_logits(ids, position, cache, memory)[:, 0].argmax(-1)
        written[open_rows, position] = chosen
        still = torch.nonzero(chosen != rules.end).flatten()
        if not len(still):
            break
        if len(still) < len(chosen):
            memory, open_rows, chosen = memory.take(still), open_rows[still], chosen[still]
            for block in cache:
                block.take(still)
        ids = chosen[:, None]
    rows: list[list[int]] = written.tolist()
    return rows


class BeamSearch:
    """Keeps the K most probable beginnings of each of N sources, and the K best finished texts.

    Of the 2K most probable continuations those that end (by the end token, or at the longest length) are finished if
    they are among the first K, scored with the length penalty; the K best others go on. A source is done when its worst
    finished text scores at least what its best beginning would if it ended now: early_stopping=False of transformers,
    which is exact for a length penalty of 0 and a good guess for others.
    """

    def __init__(self, decoder: Decoder, memory: EncoderStates, rules: SearchRules) -> None:
        """Start with one empty text a source, from which the K beams begin."""
        self.decoder, self.memory, self.rules = decoder, memory, rules
        count, device = len(memory.bias), memory.bias.device
        self.cache: list[KVCache] = []
        self.ids = torch.full((count, 1), rules.begin, device=device)
        self.scores = torch.zeros(count, 1, device=device)
        self.written = torch.empty(count, 1, 0, dtype=torch.int64, device=device)
        self.best_scores = torch.full((count, rules.beams), LOWEST_SCORE, device=device)
        self.best_texts = torch.full((count, rules.beams, rules.max_length - 1), rules.end, device=device)
        self.open_rows = torch.arange(count, device=device)
        self.found = torch.full((count, rules.max_length - 1), rules.end, device=device)

    def run(self) -> list[list[int]]:
        """Return the best text of each source, the end token after it."""
        for position in range(self.rules.max_length - 1):
            scores, parents, tokens = self._candidates(position)
            last = position + 2 >= self.rules.max_length
            ends = torch.ones_like(tokens, dtype=torch.bool) if last else tokens == self.rules.end
            texts = torch.cat([self._of(self.written, parents), tokens[:, :, None]], dim=2)
            self._finish(texts, scores / (position + 1) ** self.rules.length_penalty, ends)
            if last:
                break
            parents = self._go_on(texts, scores + ends * LOWEST_SCORE, parents)
            done = self.scores[:, 0] / (position + 1) ** self.rules.length_penalty <= self.best_scores[:, -1]
            if not self._drop(done, parents):
                break
        self.found[self.open_rows] = self.best_texts[:, 0]
        rows: list[list[int]] = self.found.tolist()
        return rows

    def _candidates(self, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return log probabilities, parent beams and last tokens of the 2K best continuations, each [N, 2K]."""
        logits = self.decoder.next_logits(self.ids, position, self.cache, self.memory)
        totals = torch.log_softmax(logits.float(), -1) + self.scores[:, :, None]
        scores, flat = totals.flatten(1).topk(2 * self.rules.beams)
        return scores, flat // logits.shape[-1], flat % logits.shape[-1]

    def _finish(self, texts: Tensor, scores: Tensor, ends: Tensor) -> None:
        """Put the ending texts among the first K candidates to the finished ones, and keep the K best of all."""
        beams, length = self.rules.beams, texts.shape[2]
        ending = scores[:, :beams].masked_fill(~ends[:, :beams], LOWEST_SCORE)
        ended = torch.full_like(self.best_texts, self.rules.end)
        ended[:, :, :length] = texts[:, :beams]
        self.best_scores, chosen = torch.cat([self.best_scores, ending], 1).topk(beams)
        self.best_texts = self._of(torch.cat([self.best_texts, ended], 1), chosen)

    def _go_on(self, texts: Tensor, scores: Tensor, parents: Tensor) -> Tensor:
        """Take the K most probable unfinished texts; return the beams they come from, [N, K]."""
        self.scores, chosen = scores.topk(self.rules.beams)
        self.written = self._of(texts, chosen)
        self.ids = self.written[:, :, -1]
        return parents.gather(1, chosen)

    def _drop(self, done: Tensor, parents: Tensor) -> int:
        """Drop the sources that are done, reorder the cache of the others by their beams; return how many go on."""
        still = torch.nonzero(~done).flatten()
        self.found[self.open_rows[done]] = self.best_texts[done, 0]
        before = self.cache[0].keys.shape[0] // len(done)
        rows = (still[:, None] * before + parents[still]).flatten()
        for block in self.cache:
            block.take(rows)
        if len(still) < len(done):
            self.memory, self.open_rows = self.memory.take(still), self.open_rows[still]
            self.ids, self.scores, self.written = self.ids[still], self.scores[still], self.written[still]
            self.best_scores, self.best_texts = self.best_scores[still], self.best_texts[still]
        return len(still)

    @staticmethod
    def _of(values: Tensor, chosen: Tensor) -> Tensor:
        """Return [N, M, T]: of values [N, K, T] those at `chosen` [N, M]."""
        return values.gather(1, chosen[:, :, None].expand(-1, -1, values.shape[2]))
