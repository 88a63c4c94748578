"""Progress of vocabulary training rises to its end over all passes; a given WordPiece refuses text it cannot read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.vocabulary import TrainingTexts, refuse_unknown_text
from bertwright.errors import TokenizerError
from bertwright.rng import stream
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.train_vocabulary import train_tokenizer

TEXT = "The boats of the harbour sail at noon, and come home before it is dark."
DNA = "".join(stream("dna", 1).choice(list("ACGT"), size=400))


def test_progress_rises_from_pass_to_pass(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("\n\n".join(f"{TEXT} {number} {line}" for line in range(50)))
    shares: list[float] = []
    texts = TrainingTexts(
        sorted(tmp_path.glob("*.txt")), ReadOptions(documents="blank"), layout="blank", text_bytes=9000,
        valid_fraction=0.0, passes=2, on_read=shares.append,
    )  # fmt: skip
    for _ in range(2):
        assert sum(map(len, texts)) == 150
    assert shares == sorted(shares)
    assert 0 < shares[0] <= 0.5
    assert 0.5 in shares
    assert shares[-1] == 1


@pytest.fixture
def wordpiece(tmp_path: Path) -> Tokenizer:
    return train_tokenizer([TEXT] * 9, folder=tmp_path, vocab_size=512)


def test_a_given_wordpiece_refuses_text_it_makes_unknown(
    wordpiece: Tokenizer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refuse_unknown_text(wordpiece, [TEXT] * 40, None)
    assert not capfd.readouterr().err
    refuse_unknown_text(wordpiece, [*[TEXT] * 40, DNA], None)
    assert re.search(f"{400 / (400 + 40 * len(TEXT)):.2%}.*100 characters", capfd.readouterr().err)
    with pytest.raises(TokenizerError, match=r"36.*%.*words"):
        refuse_unknown_text(wordpiece, [*[TEXT] * 10, DNA], None)
    bpe = train_tokenizer([TEXT] * 9, folder=tmp_path / "bpe", vocab_size=512, kind="bpe")
    refuse_unknown_text(bpe, [DNA], None)
