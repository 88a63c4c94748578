"""Classes of texts and pairs: one, several, or a choice of columns."""
