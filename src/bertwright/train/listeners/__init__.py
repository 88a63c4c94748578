"""Watches a training run: each listener receives every step report and does one thing with it."""
