"""Any tokenizer.json becomes a Tokenizer; one without a special token is refused by name."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from bertwright.errors import TokenizerError
from bertwright.tokenizer.load import SpecialIds, load_tokenizer


def _save(folder: Path, vocab: dict[str, int]) -> Path:
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=next(iter(vocab))))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(2)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


ROBERTA = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 9, "a": 5, "b": 6}


def test_special_tokens_by_their_usual_names(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(_save(tmp_path, ROBERTA))
    assert tokenizer.special == SpecialIds(pad=1, unk=3, cls=0, sep=2, mask=9)
    assert tokenizer.vocab_size == 10
    assert tokenizer.tokens[5] == "a"
    assert tokenizer.tokens[4] == ""


def test_special_tokens_named_by_the_configuration(tmp_path: Path) -> None:
    folder = _save(tmp_path, {"P": 0, "U": 1, "C": 2, "S": 3, "M": 4})
    names = {"pad_token": "P", "unk_token": {"content": "U"}, "cls_token": "C", "sep_token": "S", "mask_token": "M"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    assert load_tokenizer(folder).special == SpecialIds(0, 1, 2, 3, 4)


def test_truncation_of_the_file_is_switched_off(tmp_path: Path) -> None:
    assert load_tokenizer(_save(tmp_path, ROBERTA)).encode("a b a b") == [5, 6, 5, 6]


def test_found_in_a_data_folder(tmp_path: Path) -> None:
    _save(tmp_path / "tokenizer", ROBERTA)
    assert load_tokenizer(tmp_path).path == tmp_path / "tokenizer" / "tokenizer.json"


def test_a_missing_special_token_is_named(tmp_path: Path) -> None:
    without = {token: index for token, index in ROBERTA.items() if token != "<mask>"}
    with pytest.raises(TokenizerError, match=r"mask.*\[MASK\], <mask>"):
        load_tokenizer(_save(tmp_path, without))


@pytest.mark.parametrize("content", ["", "{}", "not json"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match="not a tokenizer"):
        load_tokenizer(tmp_path)


def test_absent_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="no tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(TokenizerError, match="exist"):
        load_tokenizer(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model": {"type": "WordLevel", "vocab": {**ROBERTA, "y" * 40_000: 12}, "unk_token": "<unk>"}}, "40,000"),
        ({"added_tokens": [{"id": 12, "content": "y" * 40_000, "special": False}]}, "40,000"),
        ({"model": {"type": "WordPiece", "vocab": ROBERTA, "max_input_chars_per_word": 10**9}}, "max_input_chars"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"}}, "not a tokenizer"),
        ({"normalizer": [{"type": "Replace", "pattern": {"String": "x"}, "content": "xx" * 10}] * 12}, "replacements"),
    ],
)
def test_what_would_end_the_process_is_refused(tmp_path: Path, change: dict[str, object], match: str) -> None:
    """In the order of the cases: tokie overflows the stack, twice; hours for a word; a panic; memory without end."""
    file = _save(tmp_path, ROBERTA) / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(TokenizerError, match=match):
        load_tokenizer(tmp_path)


def test_padding_of_the_file_is_never_done(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(_save(tmp_path, ROBERTA) / "tokenizer.json"))
    tokenizer.enable_padding(length=10**12)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode("a b") == [5, 6]
