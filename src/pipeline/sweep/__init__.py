"""Sweeps: many trainings of one recipe, each varied, for the values with the best validation macro-F1."""
