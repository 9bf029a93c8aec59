"""Files of tensors, loaded without trusting them and without PyTorch.

`.pth` in PyTorch's three formats and `.safetensors`, also in shards. The content decides which it
is, not the suffix. Nothing in a file is executed, and nothing is allocated that it is too small to
hold: tensors are views of the file.
"""

import contextlib
import json
import mmap
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convert import carried, file_kind, pickles, torch_file
from convert.tensors import dense
from flax_unet.utils.errors import InputError, on_one_line

_INDEX = ".index.json"  # of a checkpoint in shards
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.")  # its number, and how many there are
_LARGEST_INDEX = 2**26  # bytes
_SAFETENSORS = {  # names of types in a header that are not PyTorch's
    **{"F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16", "BOOL": "bool"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E4M3FNUZ": "float8_e4m3fnuz", "C64": "complex64"},
    **{"F8_E5M2": "float8_e5m2", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu"},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
_PICKLE = re.compile(rb"\x80|\([dlcit]|c[\w.]+\n[\w.]+\n")  # of any protocol
_DOWNLOAD_AGAIN = "Download or copy it again"


class Loaded(NamedTuple):
    """What a checkpoint holds."""

    content: Any  # its tensors are `Tensor`s
    files: tuple[Path, ...]  # the file itself, and its shards

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.stat().st_size for file in self.files)


@on_one_line()
def load(path: Path) -> Loaded:
    """The content of a checkpoint: a file, the index of its shards, or the folder of an index.

    Raises:
        InputError: it is missing, damaged, of another kind, or would run code.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        indices = sorted(path.glob(f"*{_INDEX}"))
        if len(indices) > 1:
            listed = ", ".join(index.name for index in indices)
            raise InputError(
                f"{path} holds {len(indices)} checkpoints in shards ({listed}). Name one: "
                f"{file_kind.command('convert.from_torch', indices[0])}"
            )
        if not indices:
            raise InputError(f"{path} {file_kind.of_folder(path)}")
        return _load_shards(indices[0])
    if file_kind.is_inside(path):
        raise InputError(f"{path.parent} {file_kind.of_folder(path.parent)}")
    if not path.is_file():
        raise InputError(f"{path} is not a file; name a .pth, .pt or .safetensors file")
    if path.name.endswith(_INDEX):
        return _load_shards(path)
    return Loaded(_load_file(path), (path,))


def _load_shards(index: Path) -> Loaded:
    """The tensors of all files that an index names, in its order."""
    names = _read_index(index)
    shards: dict[str, Any] = {}
    for name in dict.fromkeys(names.values()):
        if Path(name).name != name or "\\" in name or name in ("", ".", ".."):
            raise InputError(f"{index} names {name!r}, which is not a file in its folder; refused")
        if not (shard := index.with_name(name)).is_file():
            raise InputError(f"{shard} is missing, which {index.name} names. Download it too")
        shards[name] = _load_file(shard)
    tensors = {}
    for key, name in names.items():
        if not isinstance(shards[name], dict) or key not in shards[name]:
            raise InputError(f"{index} says that {name} holds {key}, but it does not")
        tensors[key] = shards[name][key]
    return Loaded(tensors, (index, *map(index.with_name, shards)))


def _read_index(index: Path) -> dict[str, str]:
    """The names of files by the names of the tensors in them."""
    try:
        with index.open("rb") as file:
            content: Any = json.loads(file.read(_LARGEST_INDEX))
        return {str(key): str(name) for key, name in content["weight_map"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{index} is not an index of shards: it lacks a weight_map from tensors to files"
        ) from error


def as_shard(path: Path) -> str:
    """A sentence on a file that is one shard of several, or nothing."""
    for index in sorted(path.parent.glob(f"*{_INDEX}")):
        with contextlib.suppress(InputError, OSError):
            if path.name in _read_index(index).values():
                return (
                    f"It is a shard; convert all of them by their index: "
                    f"{file_kind.command('convert.from_torch', index)}"
                )
    if match := _SHARD.search(path.name):
        return (
            f"By its name it is shard {int(match[1])} of {int(match[2])}: fetch the others and "
            f"their *{_INDEX}, and convert that"
        )
    return ""


def _load_file(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(1024)
        if not head:
            raise InputError(f"{path} is empty. {_DOWNLOAD_AGAIN}")
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        if head.startswith(b"PK\x03\x04"):
            return _load_zip(path, view)
        # Before pickles, whose first byte a header's length may have. Text has no such length.
        if head[8:9] == b"{" and b"\0" in head[:8]:
            return _load_safetensors(path, view)
        if _PICKLE.match(head):
            return _load_legacy(path, view)
        if _is_tar(head):
            return _load_tar(path, view)
    except pickles.RefusedError as refused:
        raise InputError(
            f"{path} is refused: it would call {refused}, and loading that can run code; nothing "
            "was run. If you trust its author, ask for a file of "
            "torch.save(model.state_dict(), OUT)"
        ) from refused
    except InputError:
        raise
    except Exception as error:  # whatever the damage leads to
        reason = f": {text}" if (text := _reason(error)) else ""
        raise InputError(f"{path} is truncated or damaged{reason}. {_DOWNLOAD_AGAIN}") from error
    raise InputError(f"{path} {file_kind.of_file(path, head)}")


def _reason(error: Exception) -> str:
    known = (pickles.DamagedError, zipfile.BadZipFile, tarfile.TarError)
    is_own = isinstance(error, known) or type(error).__name__ == "SafetensorError"
    return str(error).strip().partition("\n")[0] if is_own else ""


def _load_zip(path: Path, view: mmap.mmap) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        pickled = [n for n in names if "data.pkl" in (n, n.partition("/")[2])]
        if (other := file_kind.of_zip(path, names, bool(pickled))) is not None:
            raise InputError(f"{path} {other}")
        if sum(entry.file_size for entry in entries) > path.stat().st_size or any(
            entry.compress_type != zipfile.ZIP_STORED for entry in entries
        ):
            raise InputError(
                f"{path} is compressed, which PyTorch's files never are; refused. Unpack it, and "
                "pack its folder again without compression: zip -0 -r OUT.pth FOLDER"
            )
        return torch_file.read_zip(view, archive, pickled[0])


def _load_legacy(path: Path, view: mmap.mmap) -> Any:
    if pickles.load(view, {}) != torch_file.MAGIC_NUMBER:
        raise InputError(
            f"{path} is a pickle that torch.save did not write. Where it was made, load it and "
            "save the state dict: torch.save(state_dict, OUT)"
        )
    return torch_file.read_legacy(view)


def _is_tar(head: bytes) -> bool:
    """Whether a file begins with the header of a tar archive, whose checksum is right."""
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _load_tar(path: Path, view: mmap.mmap) -> Any:
    with tarfile.open(path, "r:") as archive:
        names = archive.getnames()
        if not set(names) >= torch_file.TAR_MEMBERS:
            raise InputError(f"{path} {file_kind.of_tar(path, names)}")
        return torch_file.read_tar(view, archive)


def _load_safetensors(path: Path, view: mmap.mmap) -> dict[str, Any]:
    import safetensors  # files of PyTorch are read without it

    # The library checks the header: types, bounds, and that tensors follow one another.
    with safetensors.safe_open(path, framework="np") as file:
        whole = np.frombuffer(view, np.uint8)
        start = 8 + int.from_bytes(view[:8], "little")
        header = json.loads(view[8:start])
        tensors = {}
        for key in file.offset_keys():
            part = file.get_slice(key)
            shape, dtype = tuple(part.get_shape()), str(part.get_dtype())
            begin, end = header[key]["data_offsets"]
            data = whole[start + begin : start + end]
            tensors[key] = dense(data, _SAFETENSORS.get(dtype, dtype), shape)
        return carried.with_header(tensors, file.metadata())
