"""Turns text into a vocabulary: a tokenizer.json that bertwright, tokenizers and stock transformers read alike.

The counting and merging is done by the `tokenizers` library; what is decided here is what decides the result: the
normaliser, the alphabet, the special tokens at ids 0 to 4, and a size that is a multiple of 64 (matrix products of
such widths are faster on GPUs). Training WordPiece twice on the same text gives the same file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from bertwright.errors import TokenizerError
from bertwright.files import write_json, write_text, written_aside
from bertwright.log import note
from bertwright.tokenizer.alphabet import choose_alphabet, count_characters
from bertwright.tokenizer.load import FILE, Tokenizer, load_tokenizer
from bertwright.tokenizer.long_words import BpeTexts, TextsWithBoundedWords, UnigramTexts, WordPieceTexts

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MULTIPLE = 64
SMALLEST = 512
LONGEST_TOKEN = 256
"""Bytes of a token of byte-level BPE."""

Texts = Iterable[str | Sequence[str]]
Builder = Callable[[Texts, int, bool, float], tokenizers.Tokenizer]


def train_tokenizer(
    texts: Texts, *, folder: Path, vocab_size: int, kind: str = "wordpiece", lowercase: bool = True,
    most_long_words: float = 1.0,
) -> Tokenizer:  # fmt: skip
    """Train a vocabulary on `texts`, save it in `folder` and return it.

    `texts` holds strings or lists of strings. WordPiece goes through it twice, so give a list or an object that starts
    again each time, not a generator. `vocab_size` is rounded up to a multiple of 64; where the text has fewer pieces,
    tokens [unused0], [unused1] ... fill it. Writes tokenizer.json, tokenizer_config.json and, for WordPiece, vocab.txt.
    Words without bound are left out or cut (see long_words.py), and their fraction of the text is printed. Raises
    TokenizerError where the text is empty, for WordPiece has a larger fraction of such words than `most_long_words`, or
    the size or kind is not possible.

    >>> tokenizer = train_tokenizer(["to be or not to be"] * 9, folder=Path("tokenizer"), vocab_size=512)
    >>> tokenizer.decode(tokenizer.encode("to be"))
    'to be'
    """
    if kind not in KINDS:
        raise TokenizerError(f"there is no tokenizer kind {kind!r}; choose one of {', '.join(KINDS)}")
    if vocab_size < SMALLEST:
        raise TokenizerError(f"a vocabulary of {vocab_size} is too small for special tokens and an alphabet; "
                             f"give {SMALLEST} or more")  # fmt: skip
    size = -(-vocab_size // MULTIPLE) * MULTIPLE
    trained = KINDS[kind](texts, size, lowercase, most_long_words)
    trained.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL_TOKENS.index("[CLS]")), ("[SEP]", SPECIAL_TOKENS.index("[SEP]"))],
    )
    _save(_filled(trained, size), folder, kind=kind, lowercase=lowercase)
    return load_tokenizer(folder)


def _wordpiece(texts: Texts, size: int, lowercase: bool, most_long_words: float) -> tokenizers.Tokenizer:
    """WordPiece as in BERT (Devlin et al. 2018); the merges are those of BPE, as in every open implementation.

    The trainer numbers continuation characters in the order of a randomly seeded hash map, and numbers decide ties.
    Handing it those characters as its first tokens fixes their numbers, so equal text gives an equal vocabulary.
    """
    normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=lowercase)
    trained = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizer
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bounded = WordPieceTexts(texts, words_of(trained))
    counts = count_characters(bounded)
    refuse_long_words(bounded, most_long_words, instead="--kind bpe, which has no unknown words")
    alphabet, continuing = choose_alphabet(counts, normalizer.normalize_str, room=size * 3 // 4)
    if not alphabet:
        raise TokenizerError("there is no text to train a vocabulary on; give a corpus with words in it")
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[*SPECIAL_TOKENS, *alphabet, *(f"##{character}" for character in continuing)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    trained.train_from_iterator(bounded, trainer)
    note_long_words(bounded, "left out of vocabulary training")
    return _without_extra_special_tokens(trained)


def words_of(backend: tokenizers.Tokenizer) -> Callable[[str], list[str]]:
    """Return what cuts a text into normalised words as a tokenizer does before it looks for tokens in them."""
    normalizer, splitter = backend.normalizer, backend.pre_tokenizer

    def words(text: str) -> list[str]:
        plain = text if normalizer is None else normalizer.normalize_str(text)
        return [plain] if splitter is None else [word for word, _ in splitter.pre_tokenize_str(plain)]

    return words


def refuse_long_words(texts: TextsWithBoundedWords, most: float, *, instead: str) -> None:
    """Raise TokenizerError where over a fraction `most` of the texts, gone through, are words unknown to WordPiece.

    `instead` is what to give in its place.
    """
    if texts.long_fraction > most:
        raise TokenizerError(
            f"{texts.long_fraction:.1%} of the text is words of over {texts.longest} characters, such as "
            f"'{texts.example}...': DNA, base64, or a script without blanks, of which WordPiece learns nothing; "
            f"give {instead}, put blanks into such text, or leave it out"
        )


def note_long_words(texts: TextsWithBoundedWords, treated: str) -> None:
    """Print what fraction of the texts, once gone through, are too long words, if any, and what becomes of them."""
    if texts.long_characters:
        note(f"{texts.long_fraction:.2%} of the text is words of over {texts.longest:,} characters: {treated}")


def _without_extra_special_tokens(trained: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Return a WordPiece tokenizer of the same vocabulary in which only the five real special tokens are special."""
    clean = tokenizers.Tokenizer(models.WordPiece(trained.get_vocab(), unk_token="[UNK]", max_input_chars_per_word=100))
    clean.normalizer = trained.normalizer
    clean.pre_tokenizer = trained.pre_tokenizer
    clean.decoder = decoders.WordPiece(prefix="##")
    clean.add_special_tokens(list(SPECIAL_TOKENS))
    return clean


def _byte_level_bpe(texts: Texts, size: int, lowercase: bool, _: float) -> tokenizers.Tokenizer:
    """BPE over UTF-8 bytes (Radford et al. 2019): nothing is ever unknown."""
    trained = tokenizers.Tokenizer(models.BPE(unk_token=None))
    trained.normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])])
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    bounded = BpeTexts(texts)
    trained.train_from_iterator(bounded, trainer)
    note_long_words(bounded, "cut into pieces for vocabulary training")
    return trained


def _unigram(texts: Texts, size: int, lowercase: bool, _: float) -> tokenizers.Tokenizer:
    """Unigram language model (Kudo 2018).

    Its sums run over a randomly seeded hash map, so two runs on the same text may differ in a few pieces.
    """
    trained = tokenizers.Tokenizer(models.Unigram())
    trained.normalizer = normalizers.Sequence([normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])])
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=list(SPECIAL_TOKENS), unk_token="[UNK]", show_progress=False
    )
    bounded = UnigramTexts(texts)
    trained.train_from_iterator(bounded, trainer)
    note_long_words(bounded, "cut into pieces for vocabulary training")
    return trained


KINDS: dict[str, Builder] = {"wordpiece": _wordpiece, "bpe": _byte_level_bpe, "unigram": _unigram}


def _filled(trained: tokenizers.Tokenizer, size: int) -> tokenizers.Tokenizer:
    """Return the tokenizer with [unused*] tokens up to `size`."""
    missing = size - trained.get_vocab_size()
    state: dict[str, Any] = json.loads(trained.to_str())
    vocab = state["model"]["vocab"]
    for index in range(missing):
        if isinstance(vocab, dict):
            vocab[f"[unused{index}]"] = size - missing + index
        else:
            lowest = min(score for _, score in vocab)
            vocab.append([f"[unused{index}]", lowest - 10.0])
    return tokenizers.Tokenizer.from_str(json.dumps(state))


def _save(trained: tokenizers.Tokenizer, folder: Path, *, kind: str, lowercase: bool) -> None:
    with written_aside(folder / FILE) as aside:
        trained.save(str(aside))
    config: dict[str, Any] = {
        "tokenizer_class": "BertTokenizer" if kind == "wordpiece" else "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **{f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS},
    }
    if kind == "wordpiece":
        config |= {"do_lower_case": lowercase, "strip_accents": lowercase, "tokenize_chinese_chars": True}
        vocab = sorted(trained.get_vocab().items(), key=lambda item: item[1])
        write_text(folder / "vocab.txt", "".join(f"{token}\n" for token, _ in vocab))
    write_json(folder / "tokenizer_config.json", config)
