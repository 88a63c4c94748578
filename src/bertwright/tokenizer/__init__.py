"""Turns text into token ids: trains a vocabulary, loads any tokenizer.json, encodes in bulk, finds word starts."""
