"""Turns figures into tables and pages."""
