"""Our tokenizers in stock transformers, tokie against tokenizers, word starts against word_ids: on real text."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from tokenizers import Tokenizer as Backend

from bertwright.corpus.encode import DocumentEncoder, choose_sentences
from bertwright.corpus.sentences import split_sentences
from bertwright.tokenizer.bulk import BulkEncoder
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.tokenizer.ragged import Ragged
from bertwright.tokenizer.train_vocabulary import train_tokenizer
from bertwright.tokenizer.word_starts import word_rule

REAL = Path(__file__).parents[3] / "shared" / "data" / "pretrain"
SENTENCES = [
    "Hello, World! It's 3.14 o'clock; naïve Zoë paid $5 (or €6).",
    " leading and  double   blanks\tand tabs ",
    "中文 and English 混合 text, ﬁ ligature, ½, ＡＢＣ １２３ 〇 々 □□",
    "I'm don't we'll x" + "y" * 130,
]


def _documents(language: str, most: int) -> list[str]:
    path = REAL / f"{language}.valid.jsonl.zst"
    if not path.exists():
        pytest.skip("the sample corpora are not here")
    with path.open("rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
        return [json.loads(line)["text"] for _, line in zip(range(most), lines, strict=False)]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_transformers_reads_what_we_train(tmp_path: Path, kind: str, lowercase: bool) -> None:
    from transformers import AutoTokenizer

    ours = train_tokenizer(SENTENCES * 4, folder=tmp_path, vocab_size=700, kind=kind, lowercase=lowercase)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == ours.vocab_size
    assert (theirs.pad_token_id, theirs.unk_token_id, theirs.mask_token_id) == (0, 1, 4)
    for sentence in SENTENCES:
        assert theirs(sentence, add_special_tokens=False)["input_ids"] == ours.encode(sentence)
        pair = theirs(sentence, SENTENCES[0])
        expected = ours.backend.encode(sentence, SENTENCES[0])
        assert pair["input_ids"] == expected.ids
        assert pair["token_type_ids"] == expected.type_ids


@pytest.fixture(scope="module", params=["en", "zh"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Tokenizer, list[str]]:
    language = request.param
    documents = _documents(language, 60)
    folder = tmp_path_factory.mktemp(language)
    return language, train_tokenizer(documents, folder=folder, vocab_size=8192), documents


def test_tokie_equals_tokenizers(real: tuple[str, Tokenizer, list[str]]) -> None:
    language, tokenizer, documents = real
    sentences = choose_sentences(split_sentences(documents, language)[0])
    encoder = BulkEncoder(tokenizer)
    assert encoder.prove(sentences) is None
    expected = [e.ids for e in tokenizer.backend.encode_batch(sentences, add_special_tokens=False)]
    ids, counts = encoder.encode(sentences)
    assert counts.tolist() == [len(row) for row in expected]
    assert ids.tolist() == [i for row in expected for i in row]


def test_wordpiece_word_starts_equal_word_ids(real: tuple[str, Tokenizer, list[str]]) -> None:
    _, tokenizer, documents = real
    rule = word_rule(tokenizer)
    for document in [*documents[:20], *SENTENCES]:
        encoding = tokenizer.backend.encode(document, add_special_tokens=False)
        words = np.array(encoding.word_ids)
        starts = rule.starts(Ragged(np.array(encoding.ids), np.array([len(words)])))
        assert np.array_equal(starts, np.diff(words, prepend=-1) != 0)


def test_chinese_words_keep_the_ids_of_whole_sentences(real: tuple[str, Tokenizer, list[str]]) -> None:
    import pyarrow as pa

    language, tokenizer, documents = real
    if language != "zh":
        pytest.skip("Chinese only")
    documents = [*documents, "".join(SENTENCES), "二〇〇一年，佐々木喝café１２３元。□□□"]
    encoder = DocumentEncoder(tokenizer, language="zh", newline="paragraph", sample=documents[:30])
    assert "rjieba" in encoder.word_statement
    block = encoder.encode(*encoder.split(pa.array(documents)))
    expected = [i for s in split_sentences(documents, "zh")[0] for i in tokenizer.encode(s)]
    assert block.tokens.tolist() == expected
    assert 1.3 < len(expected) / block.word_starts.sum() < 1.9


def test_byte_level_keeps_the_blank_between_sentences(tmp_path: Path) -> None:
    import pyarrow as pa

    tokenizer = train_tokenizer(["One. Two. Three."] * 9, folder=tmp_path, vocab_size=512, kind="bpe", lowercase=False)
    encoder = DocumentEncoder(tokenizer, language="en", newline="paragraph", sample=["One. Two."])
    block = encoder.encode(*encoder.split(pa.array(["One. Two. Three.", "Two. One."])))
    assert block.tokens.tolist() == tokenizer.encode("One. Two. Three.") + tokenizer.encode("Two. One.")


def test_a_roberta_like_tokenizer_is_taken(tmp_path: Path) -> None:
    ours = train_tokenizer(SENTENCES * 4, folder=tmp_path / "ours", vocab_size=512, kind="bpe")
    text = ours.path.read_text(encoding="utf-8")
    names = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
    for name, other in names.items():
        text = text.replace(f'"{name}"', f'"{other}"')
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    assert load_tokenizer(tmp_path).special == ours.special
    assert Backend.from_file(str(tmp_path / "tokenizer.json")).encode("a", "b").tokens[0] == "<s>"
