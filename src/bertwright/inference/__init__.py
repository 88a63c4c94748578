"""Runs models that are trained: in batches without waste, of torch or exported."""
