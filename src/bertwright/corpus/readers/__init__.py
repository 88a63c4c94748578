"""Readers: files of any format, compression and encoding become tables and lines, for corpus and tasks."""
