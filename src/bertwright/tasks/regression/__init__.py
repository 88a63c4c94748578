"""Scores of texts and pairs."""
