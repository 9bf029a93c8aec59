"""Data sets, evaluation and training."""
