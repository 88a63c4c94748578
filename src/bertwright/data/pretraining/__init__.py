"""Turns shards into batches."""
