"""This project and PyTorch side by side."""
