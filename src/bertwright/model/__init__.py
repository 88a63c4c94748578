"""Turns token ids into hidden states and scores: BERT (Devlin 2018) and ModernBERT (Warner 2024) as plain modules."""
