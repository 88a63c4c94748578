"""Turns token shards into batches, each a pure function of the data, the seed and the step."""
