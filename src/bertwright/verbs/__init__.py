"""One function a verb, with the names and defaults of the command line."""
