"""Turns a call of `distill` into a run: its flags, a task learned from teachers, a pre-trained student."""
