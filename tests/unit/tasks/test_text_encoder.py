"""Rows of token ids: cut and framed as Hugging Face tokenizers do, words aligned to pieces, sentences split whole."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from bertwright.tasks.text_encoder import TextEncoder, longest_first, windows
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c", "##d"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({name: i for i, name in enumerate(NAMES)}, unk_token="[UNK]")
    )
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.save(str(tmp_path / "tokenizer.json"))
    return load_tokenizer(tmp_path)


@pytest.mark.parametrize("length", [8, 9, 12])
def test_pairs_are_cut_as_hugging_face_cuts_them(tokenizer: Tokenizer, length: int) -> None:
    counts = [(first, second) for first in range(1, 12) for second in range(1, 12)]
    pairs = [("a " * first, "b " * second) for first, second in counts]
    rows = TextEncoder(tokenizer, max_length=length).rows(
        [a for a, _ in pairs], [b for _, b in pairs], np.zeros(len(pairs), dtype=np.int64), quiet=True
    )
    tokenizer.backend.enable_truncation(length, strategy="longest_first")
    expected = [tokenizer.backend.encode(a, b) for a, b in pairs]
    tokenizer.backend.no_truncation()
    batch = rows.batch(np.arange(len(pairs)))
    for place, encoded in enumerate(expected):
        mask = batch.attention_mask[place]
        assert batch.input_ids[place][mask].tolist() == encoded.ids
        assert batch.token_type_ids[place][mask].tolist() == encoded.type_ids
    assert not batch.token_type_ids[~batch.attention_mask].any()


def test_what_fits_is_left_alone() -> None:
    kept = longest_first(np.array([3, 9, 2]), np.array([3, 2, 9]), room=8)
    assert [part.tolist() for part in kept] == [[3, 6, 2], [3, 2, 6]]


def test_a_text_past_the_longest_row_is_cut_and_told(tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    rows = TextEncoder(tokenizer, max_length=8).rows(["a " * 20, "b"], None, np.zeros(2, dtype=np.int64))
    assert rows.lengths.tolist() == [8, 3]
    assert re.search("1 of 2 texts.*8 tokens", capsys.readouterr().err)


def test_each_word_is_asked_about_at_its_first_piece(tokenizer: Tokenizer) -> None:
    words, counts = ["acd", "b", "\x00", "ac", "bcdcdcdcdcd"], np.array([3, 2])
    rows = TextEncoder(tokenizer, max_length=10).word_rows(words, counts, np.arange(5))
    batch = rows.batch(np.array([1, 0]))
    assert [NAMES[i] for i in batch.input_ids[1].tolist()[:7]] == ["[CLS]", "a", "##c", "##d", "b", "[UNK]", "[SEP]"]
    assert batch.asked.tolist() == [[1, 0, 0], [1, 4, 5]] or len(rows) == 3
    assert batch.targets[1].tolist() == [0, 1, 2]


def test_long_sentences_are_split_between_words(tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    assert windows(np.array([2, 2, 2, 1, 1, 5]), np.array([3, 2, 1]), room=5)[0].tolist() == [2, 1, 2, 1]
    assert windows(np.array([1, 1]), np.array([2]), room=5)[0].tolist() == [2]
    rows = TextEncoder(tokenizer, max_length=6).word_rows(["acd", "acd", "b"], np.array([3]), np.arange(3))
    assert rows.lengths.tolist() == [5, 6]
    assert rows.num_targets.tolist() == [1, 2]
    assert rows.positions.tolist() == [1, 1, 4]
    assert "1 of 1 sentences are longer than 6 tokens" in capsys.readouterr().err
