"""Turns labelled files into rows, logits into figures: what each task knows, and no loop."""
