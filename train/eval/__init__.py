"""Evaluation: `python -m train.eval`."""
