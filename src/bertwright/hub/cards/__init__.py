"""Writes model cards."""
