"""Errors, files and their names: what every other room uses."""
