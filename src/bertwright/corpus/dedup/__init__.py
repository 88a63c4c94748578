"""Finds documents, paragraphs and passages that stood before."""
