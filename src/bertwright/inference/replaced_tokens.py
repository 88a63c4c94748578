"""Turns texts into the probability of each of their tokens that it was replaced, by ELECTRA's discriminator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bertwright.inference.base import Predictions, Predictor
from bertwright.inference.batching import BatchPolicy, in_batches
from bertwright.inference.text_rows import text_rows
from bertwright.model.bert_family import Electra
from bertwright.model.encoder import Encoder
from bertwright.tokenizer.load import Tokenizer


class ReplacedTokenPredictor(Predictor):
    """Says of each token of a text how probable it is that another stood there."""

    head_type, pairs = "row", False

    def __init__(self, model: Encoder, tokenizer: Tokenizer) -> None:
        """Take a discriminator, in evaluation mode, and its tokenizer."""
        assert isinstance(model, Electra)
        self.model, self.tokenizer = model, tokenizer

    def predict(self, questions: Sequence[tuple[str, ...]]) -> Predictions:
        """Return {"text", "replaced"} for each text: its tokens, each with the probability that it was replaced.

        Raises InputError where a text is longer than the model reads.
        """
        if not questions:
            return []
        max_length = self.model.config.max_positions
        rows = text_rows(questions, self.tokenizer, max_length=max_length, masked=False)
        found: list[list[tuple[str, float]]] = [[] for _ in questions]
        for places, probabilities in in_batches(self._probabilities, rows, policy=BatchPolicy()):
            for row, place in enumerate(places.tolist()):
                begin, length = int(rows.lengths[:place].sum()), int(rows.lengths[place])
                ids = rows.ids[begin + 1 : begin + length - 1].tolist()
                values = probabilities[row, 1 : length - 1].tolist()
                found[place] = [(self.tokenizer.tokens[token], value) for token, value in zip(ids, values, strict=True)]
        return [{"text": text, "replaced": tokens} for (text,), tokens in zip(questions, found, strict=True)]

    @torch.inference_mode()
    def _probabilities(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """Return [B, S] float32: the probability of each token of a batch."""
        device = next(self.model.parameters()).device
        names = ("input_ids", "token_type_ids", "attention_mask")
        hidden = self.model.encode(*(torch.from_numpy(arrays[name]).to(device) for name in names))
        probabilities: np.ndarray = self.model.rtd_logits(hidden).float().sigmoid().cpu().numpy()
        return probabilities
