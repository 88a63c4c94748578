"""Tokenizers of RoBERTa, XLM-R, CamemBERT and BERT, given to prepare: encoded as transformers does, also with pieces
added."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import decoders, models, normalizers, pre_tokenizers

from bertwright.corpus.encode import DocumentEncoder
from bertwright.corpus.given_vocabulary import fertility
from bertwright.corpus.shards import Shards
from bertwright.errors import TokenizerError
from bertwright.inference.text_rows import text_rows
from bertwright.tokenizer.load import SpecialIds, load_tokenizer
from bertwright.tokenizer.train_vocabulary import SPECIAL_TOKENS, train_tokenizer
from bertwright.tokenizer.vocabulary_map import digest_of, read_vocabulary_map
from bertwright.verbs.prepare import prepare

TEXTS = [
    f"The {noun} was repainted by the {person} in the spring; nobody had re-examined it, don't you think? It's {k}.5 m."
    for k, (noun, person) in enumerate(zip(["bridge", "boat", "café"] * 4, ["painters", "owner"] * 6, strict=True))
]
HOSTILE = [
    "  two  blanks\tand a tab ", "naïve Zoë, ﬁ ½ ＡＢＣ １２３", "中文 and 混合 text", "emoji ☃️ 👩‍🔬 \u0378",
    "x" * 130 + " end", "don't re-re-examine", "<s> </s> in text, [CLS] too", "",
]  # fmt: skip


def _roberta(folder: Path) -> Any:
    from transformers import RobertaTokenizer

    tokens = _trained(folder, "bpe")
    names = dict(zip(SPECIAL_TOKENS, ("<pad>", "<unk>", "<s>", "</s>", "<mask>"), strict=True))
    vocab = {names.get(token, token): place for token, place in tokens["vocab"].items()}
    return RobertaTokenizer(vocab=vocab, merges=[tuple(pair) for pair in tokens["merges"]])


def _xlm_roberta(folder: Path) -> Any:
    from transformers import XLMRobertaTokenizer

    pieces = [(token, score) for token, score in _trained(folder, "unigram")["vocab"] if token[0] != "["]
    head = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return XLMRobertaTokenizer(vocab=[*head, *pieces, ("<mask>", 0.0)])


def _camembert(folder: Path) -> Any:
    """Its <s>, </s> stand beside the vocabulary, as added tokens."""
    from transformers import CamembertTokenizer

    pieces = [(token, score) for token, score in _trained(folder, "unigram")["vocab"] if token[0] != "["]
    head = [(token, 0.0) for token in ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED")]
    return CamembertTokenizer(vocab=[*head, *pieces, ("<mask>", 0.0)])


def _modernbert(folder: Path) -> Any:
    """Byte-level BPE with NFC, BERT's names of special tokens, and runs of blanks as added tokens."""
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokens = _trained(folder, "bpe")
    vocab = {token: place for token, place in tokens["vocab"].items() if token not in SPECIAL_TOKENS}
    backend = Tokenizer(models.BPE(vocab, [tuple(pair) for pair in tokens["merges"]]))
    backend.normalizer, backend.decoder = normalizers.NFC(), decoders.ByteLevel()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_tokens([AddedToken(" " * count, normalized=True) for count in (4, 3, 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token=AddedToken("[MASK]", lstrip=True, normalized=False),
    )  # fmt: skip


def _bert(folder: Path) -> Any:
    from transformers import AutoTokenizer

    train_tokenizer(TEXTS, folder=folder, vocab_size=512)
    return AutoTokenizer.from_pretrained(folder)


def _trained(folder: Path, kind: str) -> dict[str, Any]:
    tokenizer = train_tokenizer(TEXTS, folder=folder / "trained", vocab_size=512, kind=kind, lowercase=False)
    tokens: dict[str, Any] = json.loads(tokenizer.backend.to_str())["model"]
    return tokens


KINDS: dict[str, Callable[[Path], Any]] = {
    "bert": _bert, "roberta": _roberta, "modernbert": _modernbert, "xlm-roberta": _xlm_roberta, "camembert": _camembert,
}  # fmt: skip


@pytest.fixture(scope="module", params=list(KINDS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    theirs = KINDS[request.param](folder)
    theirs.save_pretrained(folder / "model")
    return folder / "model", theirs


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("corpus") / "text.jsonl"
    lines = [f"{text} Depolarisation, repolarised: {k} depolarisations of {text[4:10]}." for k, text in
             enumerate(TEXTS * 3)]  # fmt: skip
    file.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
    return file


def test_special_tokens_by_what_they_are_for(model: tuple[Path, Any]) -> None:
    folder, theirs = model
    ids = (getattr(theirs, f"{kind}_token_id") for kind in ("pad", "unk", "cls", "sep", "mask"))
    assert load_tokenizer(folder).special == SpecialIds(*ids)


def test_documents_are_encoded_as_the_reference_does(model: tuple[Path, Any]) -> None:
    """Texts of one sentence, so that nothing is cut where the reference would not."""
    folder, theirs = model
    tokenizer = load_tokenizer(folder)
    encoder = DocumentEncoder(tokenizer, language="en", newline="paragraph", sample=TEXTS)
    for text in [*TEXTS, *HOSTILE]:
        sentences = [text]
        block = encoder.encode(sentences, np.array([1]))
        assert block.tokens.tolist() == theirs(text, add_special_tokens=False)["input_ids"]


def test_a_masked_text_is_the_reference_s(model: tuple[Path, Any]) -> None:
    folder, theirs = model
    rows = text_rows([("The boat was [MASK] by you.",)], load_tokenizer(folder), max_length=64, masked=True)
    expected = theirs(f"The boat was {theirs.mask_token} by you.", add_special_tokens=False)["input_ids"]
    assert rows.ids.tolist() == [theirs.cls_token_id, *expected, theirs.sep_token_id]


def test_prepare_extends_it_and_transformers_reads_the_result(
    model: tuple[Path, Any], corpus: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    folder, _ = model
    given = load_tokenizer(folder)
    report = prepare(corpus, tmp_path / "data", tokenizer=folder, extend_vocab=12, language="en", valid_fraction=0.2)
    both = report["vocabularies"]
    fewer_unknown = both["new"]["unknown_rate"] < both["old"]["unknown_rate"]  # words of them have more tokens now
    assert fewer_unknown or both["new"]["tokens"] < 0.9 * both["old"]["tokens"]
    assert both["general"]["changed"] < 0.05 * both["general"]["tokens"]
    extended = load_tokenizer(tmp_path / "data")
    assert extended.special == given.special
    assert len(extended.tokens) == report["vocab_size"]
    assert 5 <= extended.vocab_size - given.vocab_size <= 12
    found = read_vocabulary_map(tmp_path / "data")
    assert found is not None
    assert found.old_sha256 == digest_of(given)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "data" / "tokenizer")
    for text in [*TEXTS, *HOSTILE, "depolarisation of the depolarisations"]:
        assert loaded(text)["input_ids"] == extended.backend.encode(text).ids
    for split in ("train", "valid"):
        shards = Shards.open(tmp_path / "data", split)
        tokens = np.concatenate([shards.tokens(row) for row in range(shards.document_count)])
        assert tokens.max() >= given.vocab_size


def test_a_new_tokenizer_remembers_the_old_one(model: tuple[Path, Any], corpus: Path, tmp_path: Path) -> None:
    folder, _ = model
    report = prepare(
        corpus, tmp_path / "data", tokenizer=folder, new_tokenizer=True, vocab_size=512, kind="bpe", language="en"
    )
    given, new = load_tokenizer(folder), load_tokenizer(tmp_path / "data")
    assert report["vocabularies"]["old"]["vocab_size"] == given.vocab_size
    found = read_vocabulary_map(tmp_path / "data")
    assert found is not None
    assert found.kept[[new.special.mask, new.special.cls]].tolist() == [given.special.mask, given.special.cls]
    assert (found.kept >= 0).sum() > 30


def test_fertility_by_hand(model: tuple[Path, Any]) -> None:
    folder, theirs = model
    texts = ["The boat.", "café café"]
    counted = fertility(load_tokenizer(folder), texts, spaced=True)
    tokens = sum(len(theirs(text, add_special_tokens=False)["input_ids"]) for text in texts)
    assert (counted.tokens, counted.tokens_per_word) == (tokens, round(tokens / 4, 4))
    assert counted.bytes_per_token == round((9 + 11) / tokens, 4)


def test_a_sentencepiece_model_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"\n\x0e\n\x05<unk>")
    for path in (tmp_path, tmp_path / "sentencepiece.bpe.model"):
        with pytest.raises(TokenizerError, match="AutoTokenizer"):
            load_tokenizer(path)
