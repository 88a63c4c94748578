"""Carries out a call of `tune`: begins a study, searches, helps from other processes, trains the winner."""
