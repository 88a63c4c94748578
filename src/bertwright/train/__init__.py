"""Turns a model, an objective and batches into a trained model: the loop and what it needs."""
