"""A page that detects forged faces: `python -m flax_unet.app`."""
