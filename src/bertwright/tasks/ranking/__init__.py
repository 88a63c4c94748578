"""How well each passage answers a query: a cross-encoder."""
