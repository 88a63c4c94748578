"""Turns a vocab.txt, a token a line, into the tokenizer.json that transformers makes of it: BERT's WordPiece.

Folders before 2020 have nothing else. Whether capitals and accents are kept is in tokenizer_config.json beside it; a
folder without one is read as transformers reads it, in lower case.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from bertwright.errors import TokenizerError
from bertwright.files import optional_object
from bertwright.log import note_once
from bertwright.tokenizer.json_checks import LARGEST_FILE, LONGEST_STRING

VOCAB = "vocab.txt"
CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"
FLAGS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
BERT_CLASSES = ("Bert", "DistilBert", "Electra", "MobileBert")
"""Beginnings of the tokenizer classes of transformers whose vocab.txt is BERT's WordPiece."""


def tokenizer_of_vocab(file: Path) -> tokenizers.Tokenizer:
    """Return the tokenizer of a vocab.txt, with the settings and added tokens of the files beside it.

    Raises TokenizerError where it is no vocabulary of BERT.
    """
    config = {**_object(file.with_name("config.json")), **_object(file.with_name(CONFIG))}
    _require_bert(config, file)
    lower, accents, chinese = (_flag(config, name, file) for name in FLAGS)
    vocab = _read_vocab(file)
    names = {kind: _name(config.get(f"{kind}_token"), f"[{kind.upper()}]") for kind in ("unk", "cls", "sep")}
    missing = [name for name in names.values() if name not in vocab]
    if missing:
        raise TokenizerError(
            f"{file} has no line {missing[0]}, so it is no vocabulary of BERT; give one with a token a line, "
            f"{', '.join(names.values())} among them"
        )
    lower = lower is not False
    if lower and "do_lower_case" not in config and _has_capitals(vocab):
        note_once(
            f"{file} has tokens with capitals, but no {CONFIG} says to keep them: text is made lower case, as "
            f'transformers does; write {{"do_lower_case": false}} to {CONFIG} if the model was trained with capitals'
        )
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=names["unk"], max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lower,
        strip_accents=accents,
        handle_chinese_chars=chinese is not False,
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.post_processor = processors.TemplateProcessing(
        single=f"{names['cls']}:0 $A:0 {names['sep']}:0",
        pair=f"{names['cls']}:0 $A:0 {names['sep']}:0 $B:1 {names['sep']}:1",
        special_tokens=[(names[kind], vocab[names[kind]]) for kind in ("cls", "sep")],
    )
    _add_tokens(backend, config, file, vocab)
    return backend


def _read_vocab(file: Path) -> dict[str, int]:
    """Return the id of each token: the number of its line; of equal lines the last counts, and empty ones have none."""
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise TokenizerError(
                f"{file} has {file.stat().st_size:,} bytes, more than any vocabulary; give a vocab.txt"
            )
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise TokenizerError(
            f"{file} cannot be read as UTF-8 ({error}); give a vocab.txt with a token a line"
        ) from error
    vocab = {token: place for place, line in enumerate(lines) if (token := line.rstrip())}
    longest = max(vocab, key=len, default="")
    if len(longest.encode()) > LONGEST_STRING:
        raise TokenizerError(
            f"line {vocab[longest] + 1:,} of {file} has {len(longest):,} characters, more than any token; give a "
            "vocab.txt with a token a line"
        )
    return vocab


def _require_bert(config: Mapping[str, Any], file: Path) -> None:
    """Raise TokenizerError where the files beside say that the vocabulary is of another kind of tokenizer."""
    name = config.get("tokenizer_class")
    plain = isinstance(name, str) and name.removesuffix("Fast").removesuffix("Tokenizer") in BERT_CLASSES
    if name is not None and not plain:
        raise TokenizerError(
            f"{file} is a vocabulary for {str(name)[:100]}, which is no WordPiece of BERT; give a folder with a "
            "tokenizer.json"
        )


def _add_tokens(backend: tokenizers.Tokenizer, config: Mapping[str, Any], file: Path, vocab: dict[str, int]) -> None:
    """Add the special tokens, and those of added_tokens.json, whose ids must go on where the vocabulary ends."""
    kinds = ("unk", "sep", "pad", "cls", "mask")
    names = [_name(config.get(f"{kind}_token"), f"[{kind.upper()}]") for kind in kinds]
    backend.add_special_tokens([name for name in names if name in vocab])
    added = sorted(_object(file.with_name(ADDED)).items(), key=lambda item: str(item[1]).zfill(20))
    for token, place in added:
        found = vocab.get(token)
        if found is None and token.isprintable() and 0 < len(token.encode()) <= LONGEST_STRING:
            backend.add_tokens([AddedToken(token, normalized=False)])
            found = backend.token_to_id(token)
        if found != place:
            raise TokenizerError(
                f"{file.with_name(ADDED)} gives {token[:50]!r} the id {str(place)[:50]}, which does not follow the "
                f"vocabulary of {file}; give a folder with a tokenizer.json"
            )


def _flag(config: Mapping[str, Any], name: str, file: Path) -> bool | None:
    """Return a setting that is true, false or not given; raises TokenizerError where it is anything else."""
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise TokenizerError(f"{file.with_name(CONFIG)} has {name} {str(value)[:50]!r}; give true or false")
    return value


def _name(given: object, usual: str) -> str:
    """Return the string of a special token, as tokenizer_config.json writes it."""
    name = given.get("content") if isinstance(given, dict) else given
    return name if isinstance(name, str) and 0 < len(name) <= LONGEST_STRING // 4 else usual


def _has_capitals(vocab: Mapping[str, int]) -> bool:
    return any(token != token.lower() for token in vocab if not token.startswith("["))


def _object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file beside a vocabulary, an empty one where there is no such file."""
    return optional_object(file, error=TokenizerError, fix="fix or remove it")
