"""Turns a text into all that the page shows of what a model does with it, as plain numbers and words.

The server answers with it, and the page that opens offline holds it for some texts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertwright.corpus.sentences import cut_words
from bertwright.errors import InputError
from bertwright.hub.encoder_folder import load_model
from bertwright.hub.snapshots import SNAPSHOTS, snapshots_in
from bertwright.inspection.drawn_masks import drawn_masks
from bertwright.inspection.example_texts import Texts, default_texts
from bertwright.inspection.forward import Look, by_distance, look, similarities
from bertwright.inspection.guesses import Guesses, guesses_of, layers_of, readable
from bertwright.inspection.inspected_model import InspectedModel, open_inspected
from bertwright.inspection.states_map import StatesMap
from bertwright.inspection.word_rows import WordRow, word_row
from bertwright.model.encoder import Encoder, parameter_count
from bertwright.tokenizer.alphabet import is_cjk
from bertwright.types import TokenRows

LONGEST = 128
"""Tokens of a text that are shown: attention grows with their square."""
DRAWS = 16
"""Draws of masks of a text."""
KEPT_WEIGHTS = 64_000_000
"""Weights of snapshots that stay in memory, all together; larger ones are read again for each text."""


class Inspector:
    """Looks into one model.

    >>> # needs a model
    >>> inspector = Inspector(open_inspected(Path("run/model")))  # doctest: +SKIP
    >>> inspector.read("Return the [MASK] of the list.")["guesses"][""][0][0]  # doctest: +SKIP
    ('length', 0.31)
    """

    def __init__(
        self, model: InspectedModel, texts: Sequence[Texts] = (), *, snapshots: dict[int, Path] | None = None
    ) -> None:
        """Take the texts it is shown with at first, which others are compared with, and models of its way by steps."""
        self.model, self.snapshots = model, (snapshots or {}) if model.fills_masks else {}
        self.texts = list(texts) or default_texts(
            model.tokenizer, task=model.task, fills_masks=model.fills_masks, tells_pairs=model.tells_pairs
        )
        self._lock = Lock()
        self._read_before: dict[Path, Encoder] = {}

    def about(self) -> dict[str, Any]:
        """Return what the page says of the model, and the words that those of a text are compared with."""
        model, config = self.model, self.model.encoder.config
        states, tokens = self._reference
        return {
            "name": model.name, "task": model.task, "layers": config.layers, "heads": config.heads,
            "width": config.hidden_size, "vocabulary": model.tokenizer.vocab_size, "longest": self.longest,
            "parameters": parameter_count(model.encoder), "fills_masks": model.fills_masks,
            "tells_pairs": model.tells_pairs, "tells_order": model.tells_order, "threshold": model.threshold,
            "mask": model.tokenizer.tokens[model.tokenizer.special.mask], "steps": list(self.snapshots),
            "reference": {"tokens": tokens, "owners": states.owners.tolist(), "map": states.points()},
        }  # fmt: skip

    @property
    def longest(self) -> int:
        """Tokens of the longest row that is shown."""
        return min(LONGEST, self.model.max_length)

    def read(self, text: str, second: str | None = None, *, seed: int = 0) -> dict[str, Any]:
        """Return all that is shown of a text, or of a pair, as JSON holds it; `seed` is that of the masks drawn.

        Raises InputError for an empty text, or one longer than is shown.
        """
        texts: Texts = (text,) if second is None else (text, second)
        with self._lock:
            states, _ = self._reference
            row = self._row(texts)
            found = self._look(row)
            answer = self._tokens(row) | self._inside(row, found)
            answer["map"] = states.placed(found)
            answer["near"] = states.nearest(found, own=self.texts.index(texts) if texts in self.texts else None)
            answer |= self._pretrained(row, found, seed=seed) if self.model.fills_masks else {}
            return answer | self._predicted(texts, row, answer)

    def alike(self, text: str, others: Sequence[str]) -> list[float]:
        """Return the cosine of the vector of a text and of each of others; raises InputError as `read` does."""
        with self._lock:
            vectors = [self._vector((one,)) for one in (text, *others)]
        return [round(float(vectors[0] @ vector), 4) for vector in vectors[1:]]

    def attention(self, texts: Texts, layers: Sequence[int] | None = None) -> dict[str, Any]:
        """Return the tokens and token types of a text or a pair, and the attention of some blocks, from 0, or of all.

        "attention" is [layers, heads, S, S]. Raises InputError for a block there is none of, and as `read`.
        """
        count = self.model.encoder.config.layers
        wanted = list(range(count)) if layers is None else list(layers)
        if unknown := [layer for layer in wanted if not 0 <= layer < count]:
            raise InputError(f"there is no layer {unknown[0]}; give some of 0 to {count - 1}")
        with self._lock:
            row = self._row(texts)
            found = self._look(row)
        return {
            "tokens": [self.model.tokenizer.tokens[token] for token in row.ids.tolist()],
            "token_type_ids": row.types.tolist(),
            "layers": wanted,
            "attention": [found.attention[layer][0].float().cpu().tolist() for layer in wanted],
        }

    @cached_property
    def _reference(self) -> tuple[StatesMap, list[str]]:
        """The states of the words of its texts, and these words."""
        rows = [self._row(texts) for texts in self.texts]
        states = StatesMap.of([self._look(row) for row in rows], [row.special for row in rows])
        tokens = [readable(self.model.tokenizer, int(token)) for row in rows for token in row.ids[~row.special]]
        return states, tokens

    def _row(self, texts: Texts) -> WordRow:
        """Return the row of a text or a pair; raises InputError where a text is too long, or has no words."""
        row = word_row(texts, self.model.tokenizer, max_length=self.longest)
        if {word.text for word in row.words} != {*range(len(texts))}:
            raise InputError("there is no text to look at; give some words")
        return row

    def _rows(self, row: WordRow) -> TokenRows:
        ids = row.ids[None].to(self.model.device)
        return TokenRows(ids, row.types[None].to(ids), torch.ones_like(ids, dtype=torch.bool))

    def _look(self, row: WordRow) -> Look:
        return look(self.model.encoder, self._rows(row))

    def _vector(self, texts: Texts) -> np.ndarray:
        row = self._row(texts)
        return self.model.vector(self._rows(row), self._look(row).hidden[-1])

    def _tokens(self, row: WordRow) -> dict[str, Any]:
        """Return the tokens of a row: their names, ids and types, the words they are pieces of, and what is unknown."""
        tokenizer, ids = self.model.tokenizer, row.ids.tolist()
        mask = tokenizer.tokens[tokenizer.special.mask]
        cut = [_chinese_words(text, mask) if any(map(is_cjk, text)) else None for text in row.texts]
        return {
            "texts": list(row.texts),
            "tokens": [readable(tokenizer, token) for token in ids],
            "ids": ids,
            "types": row.types.tolist(),
            "words": [[word.tokens[0], word.tokens[-1] + 1, word.text, word.start, word.end] for word in row.words],
            "special": row.special.int().tolist(),
            "unknown": [place for place, token in enumerate(ids) if token == tokenizer.special.unk],
            "masks": row.masks,
            "cut": cut,
        }

    def _inside(self, row: WordRow, found: Look) -> dict[str, Any]:
        """Return attention, how far heads look, how alike positions are, and how alike the other texts."""
        attention = torch.stack(found.attention)[:, 0].float().cpu()
        vector = self.model.vector(self._rows(row), found.hidden[-1])
        return {
            "attention": _packed(attention),
            "distance": [
                [[round(share, 3) for share in head] for head in layer]
                for layer in by_distance(attention, row.special).tolist()
            ],
            "similarity": _packed((similarities(found)[:, 0].cpu() + 1) / 2),
            "alike": [round(float(vector @ other), 3) for other in self._vectors],
        }

    @cached_property
    def _vectors(self) -> list[np.ndarray]:
        """The vectors of its texts."""
        return [self._vector(texts) for texts in self.texts]

    def _pretrained(self, row: WordRow, found: Look, *, seed: int) -> dict[str, Any]:
        """Return what a masked-token head says: of masks, of each layer, along the run; and masks as training draws."""
        model, tokenizer = self.model.encoder, self.model.tokenizer
        guesses = guesses_of(model, tokenizer, row)
        layers = layers_of(model, tokenizer, row, found)
        filled = row.filled([int(answer.pop("id")) for answer in layers])
        return {
            "guesses": guesses,
            "steps": [guesses_of(one, tokenizer, row, pairs=False) for one in self._models_of_the_way()],
            "layers": layers,
            "draws": drawn_masks(filled, tokenizer, count=DRAWS, seed=seed),
            "clean": [readable(tokenizer, token) for token in filled.ids.tolist()],
        }

    def _models_of_the_way(self) -> Iterator[Encoder]:
        """Yield the models of the snapshots, kept in memory where they are small."""
        keeps = len(self.snapshots) * parameter_count(self.model.encoder) <= KEPT_WEIGHTS
        for folder in self.snapshots.values():
            found = self._read_before.get(folder) or load_model(folder).to(self.model.device)
            if keeps:
                self._read_before[folder] = found
            yield found

    def _predicted(self, texts: Texts, row: WordRow, answer: dict[str, Any]) -> dict[str, Any]:
        """Return what the heads predict of the row as a whole, and why."""
        model = self.model
        prediction = model.predict(texts)
        found: dict[str, Any] = {} if prediction is None else {"prediction": prediction}
        about: dict[str, Any] | None = prediction
        if prediction is None and model.tells_pairs and len(texts) == 2:
            about = {}
        elif prediction is None and model.fills_masks and row.masks:
            guesses: Guesses = answer["guesses"]
            about = {"predictions": guesses[""]}
        if about is not None and model.explainer is not None:
            found["why"] = [_rounded(one) for one in model.explainer.explain(texts, about)]
            if about == {}:
                found["next"] = round(float(torch.sigmoid(torch.tensor(found["why"][0]["value"]))), 4)
        return found


def open_inspector(folder: Path, *, name: str | None = None, texts: Sequence[Texts] = ()) -> Inspector:
    """Return what looks into the model of a MODEL or RUN folder, called `name`, with the snapshots of its run.

    Raises what `open_inspected` raises.
    """
    if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    run = folder.resolve().parent
    snapshots = snapshots_in(run / SNAPSHOTS) if folder.name == "model" else {}
    return Inspector(open_inspected(folder, name=name), texts, snapshots=snapshots)


def _chinese_words(text: str, mask: str) -> list[str]:
    """Return the words of a text with Chinese in it; each `mask` is one."""
    words, counts = cut_words(text.split(mask))
    rest, found = iter(words), []
    for number, count in enumerate(counts.tolist()):
        found += [*([mask] if number else []), *islice(rest, count)]
    return found


def _packed(shares: Tensor) -> str:
    """Return numbers from 0 to 1 as bytes in base 64, a 255th each: a tenth of the size of written numbers."""
    return base64.b64encode((shares.clamp(0, 1) * 255).round().to(torch.uint8).numpy().tobytes()).decode()


def _rounded(explained: dict[str, Any]) -> dict[str, Any]:
    """Return an explanation with numbers of four digits."""
    words = [
        {name: round(value, 4) if isinstance(value, float) else value for name, value in word.items()}
        for word in explained["words"]
    ]
    return explained | {"value": round(explained["value"], 4), "masked": round(explained["masked"], 4), "words": words}
