"""First weights of a model: drawn as published, or put in place from what a corpus says."""
