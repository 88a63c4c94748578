"""Turns token ids into hidden states and scores: BERT as plain modules."""
