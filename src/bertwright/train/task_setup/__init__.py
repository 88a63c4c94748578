"""Puts a fine-tuning run together."""
