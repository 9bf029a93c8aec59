"""Folders of crops as the published data sets lay them out."""
