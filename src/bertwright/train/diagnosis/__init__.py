"""Answers whether the loss of a pre-training run is normal, from its curve and those of our own runs."""
