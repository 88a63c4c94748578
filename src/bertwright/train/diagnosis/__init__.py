"""Answers whether the loss of a run is normal, from its curve and, of pre-training, those of our own runs."""
