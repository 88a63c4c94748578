"""Puts the rooms together: each recipe is a whole job that reads as a paragraph."""
