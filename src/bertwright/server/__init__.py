"""Turns HTTP requests into questions to models, batched as they wait, and the answers into responses."""
