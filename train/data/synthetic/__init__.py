"""The embedded data set: generated portraits, and forgeries made from them."""
