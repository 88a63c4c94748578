"""Turns labelled examples into batches."""
