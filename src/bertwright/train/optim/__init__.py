"""Optimizers and which weights each takes."""
