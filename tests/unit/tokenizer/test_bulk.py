"""The bulk encoder gives the ids of the reference whatever the text holds, and says which encoder it uses."""

import re
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers

from bertwright.rng import stream
from bertwright.tokenizer.bulk import BulkEncoder
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.tokenizer.train_vocabulary import train_tokenizer

SAMPLE = ["The café's owner, Zoë, said: naïve 中文 words!", "plain text, nothing more", "x" * 120]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(SAMPLE * 20, folder=tmp_path_factory.mktemp("tokenizer"), vocab_size=512)


def _expected(tokenizer: Tokenizer, sentences: list[str]) -> tuple[list[int], list[int]]:
    rows = [tokenizer.encode(sentence) for sentence in sentences]
    return [i for row in rows for i in row], [len(row) for row in rows]


def test_proved_equal(tokenizer: Tokenizer) -> None:
    encoder = BulkEncoder(tokenizer)
    assert encoder.prove(SAMPLE) is None
    assert re.match("tokie.* 3 sentences", encoder.statement)
    ids, counts = encoder.encode([*SAMPLE, ""])
    assert (ids.tolist(), counts.tolist()) == _expected(tokenizer, [*SAMPLE, ""])


def test_characters_that_differ_go_to_the_reference(tokenizer: Tokenizer) -> None:
    encoder = BulkEncoder(tokenizer)
    encoder.prove(SAMPLE)
    sentences = ["plain", "caf\u0378e text", "with\x7f delete", "中文", "text"]
    quick = encoder._quick(sentences)
    ids, counts = encoder.encode(sentences)
    assert (ids.tolist(), counts.tolist()) == _expected(tokenizer, sentences)
    assert not np.array_equal(quick[1], counts)  # tokie alone would have been wrong here


def test_random_characters_of_all_planes(tokenizer: Tokenizer) -> None:
    encoder = BulkEncoder(tokenizer)
    encoder.prove(SAMPLE)
    random = stream("test soup", 0)
    kinds = [(32, 127), (32, 0x600), (0x2000, 0x3000), (0x4E00, 0x9FFF), (0xE000, 0x20000)]
    picked = [kinds[i] for i in random.integers(len(kinds), size=40_000)]
    soup = [chr(random.integers(*kind)) for kind in picked]
    sentences = ["".join(soup[i : i + 20]) for i in range(0, len(soup), 20)]
    ids, counts = encoder.encode(sentences)
    assert (ids.tolist(), counts.tolist()) == _expected(tokenizer, sentences)


def test_a_tokenizer_that_tokie_does_otherwise_falls_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    backend = Backend.from_file(str(tokenizer.path))
    backend.normalizer = normalizers.Sequence([normalizers.Replace("e", "a"), normalizers.Lowercase()])
    backend.save(str(tmp_path / "tokenizer.json"))
    other = load_tokenizer(tmp_path)
    encoder = BulkEncoder(other)
    assert encoder.prove(SAMPLE) is not None
    assert encoder.statement.startswith("tokenizers: tokie")
    ids, counts = encoder.encode(SAMPLE)
    assert (ids.tolist(), counts.tolist()) == _expected(other, SAMPLE)
