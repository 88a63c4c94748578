"""Answers what needs no head: /tokenize and /decode."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from bertwright.server.endpoints.call import Call, Reply, checked_batch
from bertwright.server.endpoints.vector_endpoints import prompt_text
from bertwright.server.messages import (
    DecodeRequest,
    Token,
    TokenizeRequest,
)
from bertwright.server.refusal import Refusal
from bertwright.server.served_model import ServedModel
from bertwright.tokenizer.ragged import Ragged
from bertwright.tokenizer.word_starts import word_rule


async def tokenize(call: Call, request: TokenizeRequest) -> Reply:
    """Return the tokens of each text, with the characters they stand at."""
    texts = checked_batch(call, [request.inputs] if isinstance(request.inputs, str) else request.inputs)
    before = "" if request.prompt_name is None else prompt_text(call.model, request.prompt_name)
    return Reply(
        await asyncio.to_thread(
            tokens_of, call.model, [before + text for text in texts], special=request.add_special_tokens
        )
    )


def tokens_of(model: ServedModel, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
    """Return the tokens of texts, [CLS] and [SEP] around them where `special`."""
    tokenizer = model.tokenizer
    unknown, names, frame = tokenizer.special.unk, tokenizer.tokens, (tokenizer.special.cls, tokenizer.special.sep)
    rule, found = word_rule(tokenizer), []
    for text, encoding in zip(
        texts, tokenizer.backend.encode_batch(list(texts), add_special_tokens=False), strict=True
    ):
        ids = np.array(encoding.ids, dtype=np.int64)
        starts = rule.starts(Ragged(ids, np.array([len(ids)]))).tolist() if len(ids) else []
        tokens = [
            Token(token, text[begin:end], False, begin, end, names[token], token == unknown, start)
            for token, (begin, end), start in zip(encoding.ids, encoding.offsets, starts, strict=True)
        ]
        ends = [Token(token, names[token], True, None, None, names[token], False, True) for token in frame]
        found.append([ends[0], *tokens, ends[1]] if special else tokens)
    return found


async def decode(call: Call, request: DecodeRequest) -> Reply:
    """Return the text of token ids."""
    lists = [one for one in request.ids if not isinstance(one, int)]
    if lists and len(lists) != len(request.ids):
        raise Refusal("`ids` mixes token ids with lists of them; give a list of one kind")
    rows = checked_batch(call, lists or [[one for one in request.ids if isinstance(one, int)]], name="ids")
    tokenizer, largest = call.model.tokenizer, max(max(row) for row in rows)
    if largest >= tokenizer.vocab_size:
        raise Refusal(f"there is no token {largest:,}; ids go up to {tokenizer.vocab_size - 1:,}", "Tokenizer")
    return Reply([tokenizer.backend.decode(row, skip_special_tokens=request.skip_special_tokens) for row in rows])
