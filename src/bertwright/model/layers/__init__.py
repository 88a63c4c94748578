"""The parts blocks are made of."""
