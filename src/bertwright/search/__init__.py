"""Searches settings and models: trials of a study, in several processes, within a limit of time."""
