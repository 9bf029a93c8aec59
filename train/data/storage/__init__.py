"""Packed data sets: TFDS builders over ArrayRecord, kept in the cache."""
