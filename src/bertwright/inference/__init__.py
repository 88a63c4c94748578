"""Asks a model: in batches without waste."""
