"""Text in another language."""
