"""Compiled programs are kept between runs, so that a second start compiles nothing."""

import jax

from train.data.cache import cache_root


def keep_compiled() -> None:
    """Turns on JAX's cache on disk, unless the user chose a place for it."""
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_root() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
