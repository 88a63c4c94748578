"""Turns words typed at a terminal into calls of the recipes: one thin file a verb."""
