"""A vocab.txt alone becomes the tokenizer that stock transformers makes of it, whatever the files beside it say."""

import json
from pathlib import Path
from typing import Any

import pytest

from bertwright.errors import TokenizerError
from bertwright.tokenizer.bulk import BulkEncoder
from bertwright.tokenizer.load import load_tokenizer
from bertwright.tokenizer.train_vocabulary import train_tokenizer

TEXTS = [
    "Hello, World! The Café's Zoë said naïve [MASK] words; 3.14 kg.",
    "北海 and the sea: x" + "y" * 120,
    "ﬁ ½ ＡＢＣ \u200b\u00ad tabs\tand [SEP] marks – “quoted”",
    "",
]


def _vocab(folder: Path, *, lowercase: bool = True, kept: int | None = None) -> list[str]:
    """Write the vocab.txt of a tokenizer trained on TEXTS, and nothing else; return its lines."""
    train_tokenizer(TEXTS * 4, folder=folder / "made", vocab_size=512, lowercase=lowercase)
    lines = (folder / "made" / "vocab.txt").read_text(encoding="utf-8").splitlines()[:kept]
    (folder / "vocab.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for file in (folder / "made").iterdir():
        file.unlink()
    return lines


@pytest.mark.parametrize("cased", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        None,
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False, "model_max_length": 512},
        {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
        {"do_lower_case": True, "tokenizer_class": "BertTokenizer", "unk_token": "[UNK]"},
    ],
)
def test_the_tokens_of_transformers(tmp_path: Path, config: dict[str, Any] | None, cased: bool) -> None:
    from transformers import BertTokenizer

    _vocab(tmp_path, lowercase=not cased)
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours, theirs = load_tokenizer(tmp_path), BertTokenizer.from_pretrained(tmp_path)
    assert (ours.vocab_size, ours.special.mask) == (len(theirs), theirs.mask_token_id)
    for text in TEXTS:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.backend.encode(text, TEXTS[0]).ids == theirs(text, TEXTS[0])["input_ids"]
        assert ours.backend.encode(text, TEXTS[0]).type_ids == theirs(text, TEXTS[0])["token_type_ids"]
    encoder = BulkEncoder(ours)
    encoder.prove(TEXTS)
    assert encoder.encode(TEXTS)[0].tolist() == [i for text in TEXTS for i in ours.encode(text)]


def test_its_tokenizer_json_is_the_same_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    _vocab(tmp_path)
    ours = load_tokenizer(tmp_path / "vocab.txt")
    (tmp_path / "written").mkdir()
    ours.write(tmp_path / "written")
    again, theirs = load_tokenizer(tmp_path / "written"), AutoTokenizer.from_pretrained(tmp_path / "written")
    assert again.json_bytes == ours.json_bytes
    assert [again.encode(text) for text in TEXTS] == [ours.encode(text) for text in TEXTS]
    assert [theirs(text, add_special_tokens=False)["input_ids"] for text in TEXTS] == [ours.encode(t) for t in TEXTS]


def test_lines_ends_blanks_and_doubles(tmp_path: Path) -> None:
    from transformers import BertTokenizer

    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "", "sat", "the", "##s ", "e\u0301"]
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(lines).encode())
    ours, theirs = load_tokenizer(tmp_path), BertTokenizer.from_pretrained(tmp_path)
    text = "the cats sat, the cat"
    assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"] == [9, 6, 10, 8, 1, 9, 6]
    assert ours.tokens[7] == ours.tokens[5] == ""


def test_added_tokens(tmp_path: Path) -> None:
    from transformers import BertTokenizer

    lines = _vocab(tmp_path, kept=400)
    added = {"[E1]": len(lines), "<e2>": len(lines) + 1}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    ours, theirs = load_tokenizer(tmp_path), BertTokenizer.from_pretrained(tmp_path)
    text = "the [E1] sea <e2>."
    assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[E1]": 7}))
    with pytest.raises(TokenizerError, match="follow"):
        load_tokenizer(tmp_path)


def test_capitals_that_are_not_used_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _vocab(tmp_path, lowercase=False)
    load_tokenizer(tmp_path)
    load_tokenizer(tmp_path)
    assert capfd.readouterr().err.count("do_lower_case") == 1


@pytest.mark.parametrize(
    ("content", "config", "match"),
    [
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n", {}, "mask token"),
        (b"\xff\xfe\n", {}, "UTF-8"),
        (b"<unk>\t0\n<s>\t0\n", {}, r"\[UNK\]"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + b"a" * 40_000, {}, "line 6"),
        (b"[UNK]\n", {"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapaneseTokenizer"),
        (b"[UNK]\n", [], "JSON object"),
    ],
)
def test_what_is_no_vocabulary_of_bert_is_refused(tmp_path: Path, content: bytes, config: Any, match: str) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(TokenizerError, match=match):
        load_tokenizer(tmp_path)
