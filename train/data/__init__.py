"""Data sets as TFDS builders over ArrayRecord, and the Grain pipeline that feeds the network."""
