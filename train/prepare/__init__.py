"""Raw videos become crops, masks and metadata."""
