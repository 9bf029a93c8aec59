"""Detects forged faces in pictures and videos: `python -m flax_unet.predict`."""
