"""The cache on disk, for data sets and compiled programs."""

import os
from pathlib import Path

from flax_unet.utils.errors import InputError


def cache_root() -> Path:
    """The folder of this project's cache: `$XDG_CACHE_HOME/flax-unet`, or in `~/.cache`.

    Raises:
        InputError: the home directory is unknown.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flax-unet"
    except RuntimeError as error:
        raise InputError(f"{error}; name a folder by XDG_CACHE_HOME") from error


def keep_compiled() -> None:
    """Makes JAX keep compiled programs on disk, so that a second start compiles nothing.

    JAX_COMPILATION_CACHE_DIR names another folder for them.
    """
    import jax

    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_root() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
