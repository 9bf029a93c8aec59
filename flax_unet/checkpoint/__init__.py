"""Weights on disk, with the metadata that describes them."""
