"""The page on which pictures and videos are judged: `python -m flax_unet.app`."""
