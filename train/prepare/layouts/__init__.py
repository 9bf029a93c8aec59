"""The data sets as people download them, a module each."""
