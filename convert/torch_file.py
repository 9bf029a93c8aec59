"""Files of `torch.save` in all three formats, read without PyTorch and without running anything."""

import dataclasses
import io
import mmap
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from convert import pickles
from convert.pickles import Builders, DamagedError, Global, Inert
from convert.tensors import MOST_AXES, NUMPY, ExcessError, Storage, Tensor, tensor

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the first pickle of the format before zip archives
TAR_MEMBERS = frozenset({"sys_info", "pickle", "storages", "tensors"})  # of the oldest format

_STORAGES = {  # class of a storage -> type of its values
    **{"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16"},
    **{"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8"},
    **{"Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128"},
    **{"QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32"},
    **{"QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4", "Untyped": "uint8"},
}
_MOST_TENSORS = 2**20


def _rebuild(
    storage: Storage, offset: int, shape: Any, stride: Any, *rest: Any, dtype: str = ""
) -> Tensor:
    """A tensor; `rest` is `requires_grad`, hooks, and the signs that PyTorch did not apply yet."""
    signs = rest[2] if len(rest) > 2 and isinstance(rest[2], dict) else {}
    found = tensor(storage, dtype or storage.dtype, offset, shape, stride)
    if signs.get("neg") and found.dtype == "bool":
        raise DamagedError("negative booleans")
    return dataclasses.replace(
        found, is_negative=bool(signs.get("neg")), is_conjugate=bool(signs.get("conj"))
    )


def _rebuild_typed(
    storage: Storage, offset: int, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest
) -> Tensor:
    return _rebuild(storage, offset, shape, stride, grad, hooks, *rest, dtype=dtype.name)


def _rebuild_from_type(function: Any, _type: Any, args: Any, _state: Any) -> Any:
    if type(function) is not Global:  # the text of nested lists has no end
        raise DamagedError("a tensor that nothing makes")
    build = _BUILDERS.get(str(function))
    return Inert(str(function), args) if build is None else build(*args)


def _without_values(layout: str, dtype: str, shape: Any) -> Tensor:
    shape = tuple(shape) if isinstance(shape, list | tuple) and len(shape) <= MOST_AXES else ()
    if not all(type(side) is int and side >= 0 for side in shape):
        raise DamagedError("an impossible shape")
    return Tensor(dtype, shape, None, (0,) * len(shape), layout=layout)


_BUILDERS: Builders = {
    **{f"torch._utils.{name}": _rebuild for name in ("_rebuild_tensor", "_rebuild_tensor_v2")},
    "torch._utils._rebuild_tensor_v3": _rebuild_typed,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "torch._utils._rebuild_qtensor": lambda *args: _rebuild(*args[:4]),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": lambda data, *_: data,  # of TPUs
    "torch._utils._rebuild_meta_tensor_no_storage": (
        lambda dtype, shape, *_: _without_values("strided", dtype.name, shape)
    ),
    "torch._utils._rebuild_sparse_tensor": (
        lambda *_: _without_values("sparse", "", ())  # which stand in its arguments
    ),
    "torch.nn.parameter.Parameter": lambda data=None, *_: data,
}


def _storage(kind: Any, count: Any) -> Storage:
    """The storage that a persistent id describes: its class, as in `torch.FloatStorage`."""
    dtype = _STORAGES.get(kind.name.removesuffix("Storage")) if type(kind) is Global else None
    if dtype is None or type(count) is not int:
        raise DamagedError
    return Storage(dtype, count)


def read_zip(view: mmap.mmap, archive: zipfile.ZipFile, pickle_name: str) -> Any:
    """The content of a file in today's format, its tensors as `Tensor`.

    Raises:
        RefusedError, DamagedError: as `pickles.load` does.
    """
    folder = pickle_name.removesuffix("data.pkl")
    members = {entry.filename: entry for entry in archive.infolist()}
    whole = np.frombuffer(view, np.uint8)
    swapped = "big" in str(_bytes(whole, members.get(f"{folder}byteorder")))
    storages: dict[str, Storage] = {}

    def persistent(saved: Any) -> Storage:
        _, kind, key, _, count = saved
        if type(key) is not str:  # the hash of nested tuples takes for ever
            raise DamagedError("a storage without a name")
        if key not in storages:
            storage = _storage(kind, count)
            storage.swapped = swapped
            data = _member(whole, members[f"{folder}data/{key}"])
            if storage.dtype in NUMPY:
                _fill(storage, data)
            storages[key] = storage
        return storages[key]

    stream = io.BytesIO(_bytes(whole, members[pickle_name]))
    return pickles.load(stream, _BUILDERS, persistent)


def _fill(storage: Storage, data: np.ndarray) -> None:
    try:
        storage.fill(data)
    except ExcessError as error:
        raise DamagedError(str(error)) from error


def _member(whole: np.ndarray, entry: zipfile.ZipInfo) -> np.ndarray:
    """The bytes of an uncompressed member of a zip archive, where they stand in the file."""
    header = whole[entry.header_offset : entry.header_offset + 30].tobytes()
    if not header.startswith(b"PK\x03\x04") or entry.compress_type != zipfile.ZIP_STORED:
        raise DamagedError
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
    data = whole[start : start + entry.file_size]
    if data.size != entry.file_size:
        raise DamagedError
    return data


def _bytes(whole: np.ndarray, entry: zipfile.ZipInfo | None) -> bytes:
    return b"" if entry is None else _member(whole, entry).tobytes()


def read_legacy(view: mmap.mmap) -> Any:
    """The content of a file in the format of PyTorch 0.1.10 to 1.5, its tensors as `Tensor`.

    The first pickle, which is `MAGIC_NUMBER`, is read already.

    Raises:
        RefusedError, DamagedError: as `pickles.load` does.
    """
    pickles.load(view, {})  # the version of the protocol
    system = pickles.load(view, {})
    swapped = isinstance(system, dict) and system.get("little_endian") is False
    storages: dict[Any, Storage] = {}
    views: list[tuple[Storage, Storage, int]] = []

    def persistent(saved: Any) -> Any:
        if saved[0] == "module":  # a class and its source code
            return saved[1]
        _, kind, key, _, count, *rest = saved
        if type(key) not in (str, int):
            raise DamagedError("a storage without a name")
        root = storages.setdefault(key, _storage(kind, count))
        root.swapped = swapped
        if rest and rest[0] is not None:
            _, offset, part = rest[0]
            views.append((_storage(kind, part), root, offset))
            return views[-1][0]
        return root

    content = pickles.load(view, _BUILDERS, persistent)
    keys = pickles.load(view, {})
    whole, position = np.frombuffer(view, np.uint8), view.tell()
    for key in keys:
        (count,) = struct.unpack("<q", whole[position : position + 8].tobytes())
        storage = storages[key]
        if count != storage.count:
            raise DamagedError
        if storage.dtype not in NUMPY:
            break  # of unknown size, so what follows cannot be found; only such tensors need it
        _fill(storage, whole[position + 8 :])
        position += 8 + count * NUMPY[storage.dtype].itemsize
    _fill_views(views)
    return content


def _fill_views(views: list[tuple[Storage, Storage, int]]) -> None:
    for part, root, offset in views:
        if type(offset) is not int or offset < 0 or root.data is None:
            raise DamagedError
        part.swapped = root.swapped
        _fill(part, root.data[offset * NUMPY[root.dtype].itemsize :])


def read_tar(view: mmap.mmap, archive: tarfile.TarFile) -> Any:
    """The content of a file in the format before PyTorch 0.1.10, its tensors as `Tensor`.

    Raises:
        RefusedError, DamagedError: as `pickles.load` does.
    """
    whole = np.frombuffer(view, np.uint8)

    def part(name: str) -> np.ndarray:
        member = archive.getmember(name)
        if not member.isreg() or member.issparse():
            raise DamagedError
        return whole[member.offset_data : member.offset_data + member.size]

    objects: dict[Any, Any] = {}
    data = part("storages")
    stream = io.BytesIO(data.tobytes())
    for _ in _counted(stream):
        key, _, kind = pickles.load(stream, {})
        (count,) = struct.unpack("<q", stream.read(8))
        storage = objects[int(key)] = _storage(kind, count)
        _fill(storage, data[stream.tell() :])
        stream.seek(count * NUMPY[storage.dtype].itemsize, io.SEEK_CUR)
    views = []
    for key, root, offset, size in pickles.load(stream, {}):
        views.append((Storage(objects[root].dtype, size), objects[root], offset))
        objects[key] = views[-1][0]
    _fill_views(views)
    stream = io.BytesIO(part("tensors").tobytes())
    for _ in _counted(stream):
        key, root, _ = pickles.load(stream, {})
        (axes, _) = struct.unpack("<ii", stream.read(8))
        if not 0 <= axes <= MOST_AXES:
            raise DamagedError
        numbers = struct.unpack(f"<{2 * axes + 1}q", stream.read(16 * axes + 8))
        storage = objects[root]
        shape, stride = numbers[:axes], numbers[axes : 2 * axes]
        objects[int(key)] = tensor(storage, storage.dtype, numbers[-1], shape, stride)

    def persistent(saved: Any) -> Any:
        return saved[0] if isinstance(saved, tuple) else objects[int(saved)]

    return pickles.load(io.BytesIO(part("pickle").tobytes()), _BUILDERS, persistent)


def _counted(stream: io.BytesIO) -> Iterator[int]:
    count = pickles.load(stream, {})
    if type(count) is not int or not 0 <= count <= _MOST_TENSORS:
        raise DamagedError
    yield from range(count)
