"""Writes and reads checkpoints."""
