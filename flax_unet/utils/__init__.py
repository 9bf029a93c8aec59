"""Errors, files and command lines, for every other package."""
