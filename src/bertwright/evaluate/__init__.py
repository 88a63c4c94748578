"""Turns a trained model into figures and predictions that people can judge."""
