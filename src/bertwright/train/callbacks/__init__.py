"""Watches a training run: a file a callback."""
