"""PyTorch checkpoints to Orbax, and back."""
