"""Where the tokens of a new vocabulary come from: roles of special tokens, kept words, old pieces; kept in a file."""

import json
from pathlib import Path

import numpy as np
import pytest

from bertwright.errors import DataError
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.train_vocabulary import train_tokenizer
from bertwright.tokenizer.vocabulary_map import (
    OLD_VOCABULARY,
    digest_of,
    map_of_extension,
    map_of_new,
    read_vocabulary_map,
    write_vocabulary_map,
)

OLD = [f"the cat and the dog sat on the mat near the {word}, the cats sit" for word in ("house", "door", "river")] * 9
NEW = [f"the catalogue of the {word} and the library, the cat reads" for word in ("museum", "city", "house")] * 9


def _train(folder: Path, texts: list[str], kind: str) -> Tokenizer:
    return train_tokenizer(texts, folder=folder, vocab_size=512, kind=kind)


@pytest.mark.parametrize("old_kind", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("new_kind", ["wordpiece", "bpe", "unigram"])
def test_words_in_both_are_kept_whatever_the_kinds(tmp_path: Path, old_kind: str, new_kind: str) -> None:
    old, new = _train(tmp_path / "old", OLD, old_kind), _train(tmp_path / "new", NEW, new_kind)
    found = map_of_new(old, new)
    assert found.old_sha256 == digest_of(old)
    assert [found.kept[i] for i in (new.special.pad, new.special.mask)] == [old.special.pad, old.special.mask]
    kept = [i for i in np.flatnonzero(found.kept >= 0).tolist() if not new.tokens[i].startswith("[")]
    assert len(kept) > 9
    for place in kept:
        assert _plain(new, new_kind, place) == _plain(old, old_kind, int(found.kept[place]))
    there = {_plain(old, old_kind, i) for i in range(old.vocab_size)}
    fresh = [i for i in np.flatnonzero(found.kept < 0).tolist() if new.tokens[i] and not new.tokens[i].startswith("[")]
    assert fresh
    starts = found.pieces.starts
    for place in fresh:
        assert _plain(new, new_kind, place) not in there
        ids = found.pieces.values[starts[place] :][: found.pieces.lengths[place]].tolist()
        text = _plain(new, new_kind, place)[0]
        if text.isascii() and old.special.unk not in old.encode(f"the{text}"):
            assert old.decode(ids).replace(" ", "").replace("##", "") == text.lower()


def _plain(tokenizer: Tokenizer, kind: str, place: int) -> tuple[str, bool]:
    """Return the letters of a token, which are ASCII here, and whether it begins a word."""
    name = tokenizer.tokens[place]
    begins = not name.startswith("##") if kind == "wordpiece" else name[:1] in ("Ġ", "▁")
    return name.removeprefix("##").lstrip("Ġ▁"), begins


def test_special_tokens_are_known_by_what_they_are_for(tmp_path: Path) -> None:
    old = _train(tmp_path / "old", OLD, "bpe")
    names = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
    text = old.path.read_text(encoding="utf-8")
    for name, other in names.items():
        text = text.replace(f'"{name}"', f'"{other}"')
    old.path.write_text(text, encoding="utf-8")
    (tmp_path / "old" / "tokenizer_config.json").unlink()
    from bertwright.tokenizer.load import load_tokenizer

    new = _train(tmp_path / "new", NEW, "wordpiece")
    found = map_of_new(load_tokenizer(tmp_path / "old"), new)
    assert found.kept[[new.special.cls, new.special.sep]].tolist() == [old.special.cls, old.special.sep]


def test_it_is_read_back_as_it_was(tmp_path: Path) -> None:
    old = _train(tmp_path / "old", OLD, "wordpiece")
    found = map_of_extension(old, [[7, 8], [], [9]])
    (tmp_path / "data" / "tokenizer").mkdir(parents=True)
    write_vocabulary_map(tmp_path / "data" / "tokenizer", found, how="extended", model="somewhere")
    for folder in (tmp_path / "data", tmp_path / "data" / "tokenizer"):
        read = read_vocabulary_map(folder)
        assert read is not None
        assert (read.old_sha256, read.old_size) == (found.old_sha256, old.vocab_size)
        assert np.array_equal(read.kept, found.kept)
        assert np.array_equal(read.pieces.values, found.pieces.values)
        assert np.array_equal(read.pieces.lengths, found.pieces.lengths)
    assert read_vocabulary_map(tmp_path / "old") is None


@pytest.mark.parametrize(
    "change",
    [{"format": 9}, {"kept": [10**9]}, {"kept": "x"}, {"pieces": {"0": [-5]}, "kept": [-1]}, {"old_size": None}],
)
def test_a_damaged_one_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    old = _train(tmp_path, OLD, "wordpiece")
    write_vocabulary_map(tmp_path, map_of_extension(old, [[7, 8]]), how="extended", model="m")
    file = tmp_path / OLD_VOCABULARY
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DataError, match=OLD_VOCABULARY):
        read_vocabulary_map(tmp_path)
