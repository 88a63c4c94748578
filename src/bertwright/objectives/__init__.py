"""Turns batches into questions and scores into losses: one file an objective, hiding and marking side by side."""
