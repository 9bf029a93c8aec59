"""Weights on disk, with their metadata."""
