"""Turns any Hugging Face tokenizer.json or vocab.txt into a Tokenizer: its ids and its special tokens in one place.

Every room that needs a vocabulary asks for it here, so that a tokenizer trained by bertwright, one downloaded with a
model and one copied beside the data are read by the same rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tokenizers

from bertwright.errors import TokenizerError, is_native_failure
from bertwright.files import optional_object, read_json
from bertwright.tokenizer.json_checks import LARGEST_FILE, checked_json
from bertwright.tokenizer.vocab_txt import VOCAB, tokenizer_of_vocab

FILE = "tokenizer.json"
NAMES = (FILE, VOCAB)
"""What a tokenizer is read from, the first that is there."""
NOT_JSON = ("sentencepiece.bpe.model", "spm.model", "spiece.model", "tokenizer.model", "vocab.json", "merges.txt")
"""What tokenizers of other libraries are kept in: sentencepiece, and byte-level BPE before 2020."""
INNER = ("tokenizer", "0_Transformer")
"""Folders in a folder where it may lie: in DATA, and in a model of sentence-transformers before 2.0."""

SPECIAL_NAMES: dict[str, tuple[str, ...]] = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
"""The names each special token is known by, tried in this order after tokenizer_config.json."""

UNHEARD_OF = "\ue000 a\U0010fffd. \U00012031\U0001f6d8"
"""A text of characters that no vocabulary has: a tokenizer that cannot say "unknown" is found out when it is read.

Those of no meaning are left out by BERT's normalizer; a cuneiform sign and a late pictograph are not."""
WIDEST = 8
"""Ids a token that a tokenizer may use up, and 1,000 more: published ones leave gaps of some hundreds at most."""


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the five tokens every BERT needs."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


@dataclass(frozen=True)
class PairFrame:
    """How the second text of a pair follows the first.

    separators   separator tokens between them: 1 in [CLS] A [SEP] B [SEP], 2 in RoBERTa's <s> A </s></s> B </s>
    second_type  the token type of the second: 1 in BERT's tokenizers, 0 in RoBERTa's
    """

    separators: int
    second_type: int


class Tokenizer:
    """A vocabulary ready to use.

    path        the tokenizer.json or vocab.txt it was read from
    backend     the `tokenizers.Tokenizer`, with truncation and padding switched off
    vocab_size  largest id + 1, which is the number of rows an embedding needs
    special     ids of the special tokens
    """

    def __init__(self, path: Path, backend: tokenizers.Tokenizer, special: SpecialIds) -> None:
        """Hold what `load_tokenizer` has read."""
        self.path = path
        self.backend = backend
        self.special = special
        self.vocab_size = max(backend.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def json_bytes(self) -> bytes:
        """The bytes of its tokenizer.json: those of the file, or for a vocab.txt what is made of it."""
        if self.path.suffix != ".txt":
            return self.path.read_bytes()
        text: str = self.backend.to_str(pretty=True)
        return text.encode()

    def write(self, folder: Path) -> None:
        """Write its tokenizer.json to `folder`."""
        (folder / FILE).write_bytes(self.json_bytes)

    @cached_property
    def tokens(self) -> list[str]:
        """The string of each id; an id that no token uses has the empty string."""
        names = [""] * self.vocab_size
        for token, index in self.backend.get_vocab(with_added_tokens=True).items():
            names[index] = token
        return names

    @cached_property
    def pair_frame(self) -> PairFrame:
        """How its tokenizer.json joins two texts; as BERT does where it says nothing."""
        added = [self.backend.num_special_tokens_to_add(pair) for pair in (False, True)]
        types = self.backend.encode("a", "a").type_ids
        return PairFrame(separators=2 if added[1] - added[0] == 2 else 1, second_type=max(types, default=1))

    @cached_property
    def reserved(self) -> list[str]:
        """The added tokens a tokenizer recognises inside running text, such as [MASK]."""
        return sorted(token.content for token in self.backend.get_added_tokens_decoder().values() if token.special)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, without special tokens around it."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids, special tokens left out."""
        text: str = self.backend.decode(ids, skip_special_tokens=True)
        return text

    def readable(self, token: int) -> str:
        """Return a token as a person reads it: WordPiece's ## kept, byte-level tokens decoded."""
        name = self.tokens[token]
        return name if name.startswith("##") else self.decode([token]).strip() or name


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json or a vocab.txt, or the one in a folder (a model folder, a DATA folder or its tokenizer/).

    Raises TokenizerError where there is none, it cannot be read, or a special token is missing.
    """
    file = _find(path)
    backend = tokenizer_of_vocab(file) if file.suffix == ".txt" else _of_json(file)
    vocab = backend.get_vocab(with_added_tokens=True)
    largest = max(vocab.values(), default=0)
    if largest >= WIDEST * len(vocab) + 1000:
        raise TokenizerError(
            f"{file} has {len(vocab):,} tokens and one of id {largest:,}: an embedding would need as many "
            "rows; give a tokenizer whose ids follow one another"
        )
    return Tokenizer(file, backend, _special_ids(file, vocab))


def _of_json(file: Path) -> tokenizers.Tokenizer:
    """Return the backend of a tokenizer.json, once nothing in it can end the process."""
    if file.stat().st_size > LARGEST_FILE:
        raise TokenizerError(f"{file} has {file.stat().st_size:,} bytes, more than any tokenizer; give a {FILE}")
    try:
        values = read_json(file)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error
    text = json.dumps(checked_json(values, file))
    try:
        backend = tokenizers.Tokenizer.from_str(text)
        backend.encode(UNHEARD_OF)
    except BaseException as error:  # tokenizers raises plain Exception, or a panic, for whatever it cannot use
        if not is_native_failure(error):
            raise
        raise _unreadable(file, error) from error
    return backend


def _unreadable(file: Path, error: BaseException) -> TokenizerError:
    return TokenizerError(
        f"{file} is not a tokenizer that Hugging Face tokenizers can read ({error}); "
        "give a tokenizer.json saved by tokenizers or transformers"
    )


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder has a tokenizer of its own."""
    return any((folder / name).is_file() for name in NAMES)


def _find(path: Path) -> Path:
    named = [] if path.name in NOT_JSON else [path]
    for file in (*named, *(folder / name for folder in (path, *(path / name for name in INNER)) for name in NAMES)):
        if file.is_file():
            return file
    if has_tokenizer(path / "model"):
        raise TokenizerError(f"{path} is a RUN folder; its model is in {path / 'model'}: give that")
    folder = path.parent if path.is_file() else path
    if others := [name for name in NOT_JSON if (folder / name).is_file()]:
        raise TokenizerError(
            f"{folder} has its tokenizer in {' and '.join(others)} alone, which is not read; write a {FILE} beside it "
            f"with transformers: AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        )
    if path.exists():
        raise TokenizerError(
            f"the folder {path} holds no {FILE} and no {VOCAB}; give the file or a folder that has one of them"
        )
    raise TokenizerError(f"{path} does not exist; give a {FILE}, a {VOCAB} or a folder that has one")


def _special_ids(file: Path, vocab: Mapping[str, int]) -> SpecialIds:
    configured = _configured_names(file.with_name("tokenizer_config.json"))
    ids: dict[str, int] = {}
    for kind, usual in SPECIAL_NAMES.items():
        names = [*([configured[kind]] if kind in configured else []), *usual]
        found = next((vocab[name] for name in names if name in vocab), None)
        if found is None:
            raise TokenizerError(
                f"{file} has no {kind} token (looked for {', '.join(names)}); "
                "give a tokenizer that has pad, unk, cls, sep and mask tokens, or name it in tokenizer_config.json"
            )
        ids[kind] = found
    return SpecialIds(**ids)


def _configured_names(config: Path) -> dict[str, str]:
    values = optional_object(config, error=TokenizerError, fix="fix or remove it")
    named = {kind: values.get(f"{kind}_token") for kind in SPECIAL_NAMES}
    contents = {kind: name.get("content") if isinstance(name, dict) else name for kind, name in named.items()}
    return {kind: name for kind, name in contents.items() if isinstance(name, str)}
