"""Decides which documents are kept."""
