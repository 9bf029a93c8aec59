"""The model card of a checkpoint: `python -m flax_unet.card`."""
