"""Puts a pre-training run together."""
