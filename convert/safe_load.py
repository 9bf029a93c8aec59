"""Files of tensors, `.pth`, `.pt` or `.safetensors`, loaded without trusting them."""

import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flax_unet.utils.errors import InputError

_ZIP_MAGIC = b"PK\x03\x04"
# Numbers as NumPy pickles them, such as the best accuracy so far, make no code run.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
_SAFE: list[Any] = [
    *((_NUMPY_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(np.dtype, *(type(np.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "?"))),
]
# What the pickle of a state dict, or of a model around it, names besides a program's own code.
_HARMLESS = re.compile(
    r"collections\.OrderedDict|(__builtin__|builtins)\.set|_codecs\.encode"
    r"|numpy\.(dtype|_?core\.multiarray\.scalar|dtypes\.\w+)"
    r"|torch\.(Size|\w*Storage|_utils\.\w+|storage\.\w+|nn\.(modules|parameter)\..+)"
)
_PICKLE_MAGIC = b"\x80"
_SAFETENSORS_MAGIC = b'{"'  # after the eight bytes of the header's length
_MAX_PICKLE = 2**26  # bytes of instructions; the published files have under 20 kB
_DOWNLOAD_AGAIN = "Download or copy it again"


def load(path: Path) -> Any:
    """The content of a file, whichever its format is; the content decides, not the suffix.

    Nothing in the file is executed.

    Raises:
        InputError: the file is damaged, of another kind, or would run code.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise InputError(f"{path} is empty. {_DOWNLOAD_AGAIN}")
    if head.startswith(_ZIP_MAGIC):
        _check_zip(path)
        return _torch_load(path, mmap=True)
    if head[8:10] == _SAFETENSORS_MAGIC:  # before pickles, whose first byte its length may have
        return _load_safetensors(path)
    if head.startswith(_PICKLE_MAGIC):
        return _torch_load(path, mmap=False)
    raise InputError(
        f"{path} is not a PyTorch or safetensors checkpoint: it begins with {head[:16]!r}. "
        "If it was downloaded, what arrived may be a web page or a Git LFS pointer"
    )


def _check_zip(path: Path) -> None:
    """Refuses archives that PyTorch did not write, or that hold more than their size."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InputError(f"{path} is truncated or damaged: {error}. {_DOWNLOAD_AGAIN}") from error
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise InputError(
            f"{path} is a TorchScript program. Save its weights instead: "
            "torch.save(torch.jit.load(FILE).state_dict(), OUT)"
        )
    if "data.pkl" not in names:
        listed = ", ".join(entry.filename for entry in entries[:5]) or "nothing"
        raise InputError(f"{path} is a zip archive but not a PyTorch checkpoint; it holds {listed}")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise InputError(f"{path} is compressed, which PyTorch's files never are; refused")


def _torch_load(path: Path, *, mmap: bool) -> Any:
    try:
        with torch.serialization.safe_globals(_SAFE):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises whatever the damage leads to
        raise InputError(f"{path} {_why_refused(path, error)}") from error


def _why_refused(path: Path, error: Exception) -> str:
    names = _imports(path)
    code = ", ".join(name for name in names if not _HARMLESS.fullmatch(name))
    if any(name.startswith("torch.nn.modules.") for name in names):
        return (
            f"is a whole pickled model ({code}), which runs code when it is loaded; nothing was "
            "run. Where that code is at hand and trusted, save the weights alone: "
            "torch.save(model.state_dict(), OUT)"
        )
    if code:
        return (
            f"is refused: it names objects that are not tensors ({code}), and loading these can "
            "run code; nothing was run. If you trust its author, ask for a file of "
            "torch.save(model.state_dict(), OUT)"
        )
    if isinstance(error, UnicodeEncodeError):
        return "has a name that is not valid UTF-8; rename it"
    # PyTorch's message for a damaged pickle advises to load it unsafely.
    is_pickle = isinstance(error, pickle.UnpicklingError)
    reason = "" if is_pickle else f": {str(error).strip().partition(chr(10))[0]}"
    return f"is truncated or damaged{reason}. {_DOWNLOAD_AGAIN}"


def _imports(path: Path) -> list[str]:
    """The names that the file's pickle would import, read off without executing it."""
    names: dict[str, None] = {}
    try:
        with path.open("rb") as file:
            if file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC:
                with zipfile.ZipFile(path) as archive:
                    entry = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
                    with archive.open(entry) as stream:
                        _collect_imports(stream, names, pickles=1)
            else:
                file.seek(0)
                _collect_imports(file, names, pickles=4)  # magic, version, system, content
    except (ValueError, StopIteration, OSError, zipfile.BadZipFile):
        pass  # damaged further on: report the names that were read so far
    return list(names)


def _collect_imports(stream: Any, names: dict[str, None], *, pickles: int) -> None:
    strings: list[str] = []
    for _ in range(pickles):
        for opcode, argument, position in pickletools.genops(stream):
            if position is not None and position > _MAX_PICKLE:
                raise ValueError("too long")
            if opcode.name == "GLOBAL":
                names[str(argument).replace(" ", ".")] = None
            elif opcode.name == "STACK_GLOBAL":  # takes the two strings before it
                names[".".join(strings[-2:])] = None
            elif isinstance(argument, str):
                strings.append(argument)


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    import safetensors  # files of PyTorch are read without it

    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.offset_keys()}
    except Exception as error:  # the library's own error, or torch's for a bad shape
        raise InputError(f"{path} is truncated or damaged: {error}. {_DOWNLOAD_AGAIN}") from error
