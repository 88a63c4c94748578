"""Turns a large model into a small one: what a teacher gives, the student that imitates it, and how far they differ."""
