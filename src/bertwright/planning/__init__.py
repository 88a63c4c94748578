"""Turns an amount of time into a run: how large a model, on how many tokens, and what loss to expect of it."""
