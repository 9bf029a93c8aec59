"""The model card of a checkpoint: `python -m train.card`."""
