"""What is kept between runs."""

import os
from pathlib import Path

from flax_unet.utils.errors import InputError


def cache_root() -> Path:
    """The folder of this project's cache: `$XDG_CACHE_HOME/flax-unet`, or in `~/.cache`.

    Raises:
        InputError: there is no home.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flax-unet"
    except RuntimeError as error:
        raise InputError(f"{error}; name a folder by XDG_CACHE_HOME") from error


def keep_compiled() -> None:
    """Has JAX keep compiled programs on disk, so that a second start compiles nothing.

    Where a user chose another place for them, by JAX_COMPILATION_CACHE_DIR, they go there.
    """
    import jax

    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_root() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
