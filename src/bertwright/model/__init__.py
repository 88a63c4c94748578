"""Turns token ids into hidden states and scores: BERT (Devlin 2018) as plain modules."""
