"""Runs the work of preparation in threads, processes or on Ray, with the same result."""
