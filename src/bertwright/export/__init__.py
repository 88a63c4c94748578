"""Turns our models into folders that other tools read, and theirs into ours."""
