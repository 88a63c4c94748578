"""Turns text into token ids: trains or extends a vocabulary, reads any tokenizer.json, encodes in bulk, finds words."""
