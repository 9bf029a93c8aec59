"""The network, in pure JAX: nothing here reads a file or a picture."""
