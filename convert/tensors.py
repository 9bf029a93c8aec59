"""Tensors of files as NumPy arrays, without PyTorch: views of the file, in the stored type."""

import dataclasses
import math
from typing import Any

import ml_dtypes
import numpy as np

_HALVES = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "bfloat16")
NUMPY: dict[str, np.dtype[Any]] = {
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in _HALVES},
    **{name: np.dtype(name) for name in ("bool", "complex64", "complex128")},
    **{f"float{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"{sign}int{n}": np.dtype(f"{sign}int{n}") for n in (8, 16, 32, 64) for sign in ("", "u")},
}
"""Types of tensors that can be read, by PyTorch's name."""
MOST_AXES = 32


class NoValuesError(ValueError):
    """A tensor has no values that can be read. The message is a predicate."""


class ExcessError(ValueError):
    """A tensor claims more values than its file holds."""


@dataclasses.dataclass(eq=False)
class Storage:
    """Values in a file, which tensors are views of."""

    dtype: str  # PyTorch's name
    count: int  # values
    data: np.ndarray | None = None  # (bytes,) uint8
    swapped: bool = False  # big-endian

    def fill(self, data: np.ndarray) -> None:
        """Sets the values from bytes of the file, of which the first are this storage's.

        Raises:
            ExcessError: there are too few.
        """
        size = self.count * NUMPY[self.dtype].itemsize if self.dtype in NUMPY else 0
        if type(self.count) is not int or not 0 <= size <= data.size:
            raise ExcessError("holds fewer values than it claims")
        self.data = data[:size]


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor as a file describes it; nothing is checked before `array`."""

    dtype: str
    shape: tuple[int, ...]
    storage: Storage | None
    stride: tuple[int, ...]
    offset: int = 0
    layout: str = "strided"
    is_negative: bool = False  # the negative of what is stored
    is_conjugate: bool = False  # its conjugate

    @property
    def size(self) -> int:
        """How many values it claims to have."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes it claims to have."""
        return self.size * (NUMPY[self.dtype].itemsize if self.dtype in NUMPY else 1)

    @property
    def lack(self) -> str | None:
        """Why it has no values that can be read, as a predicate; or None."""
        if self.layout != "strided":
            return f"is a {self.layout} tensor"
        if self.dtype not in NUMPY:
            return f"is a tensor of torch.{self.dtype}"
        if self.storage is None or self.storage.data is None:
            return f"holds no values (shape {self.shape}, device meta)"
        return None

    def array(self) -> np.ndarray:
        """The values, as a view of the file where their sign is the stored one.

        Raises:
            NoValuesError: it has none, or they are of a kind that cannot be read.
            ExcessError: it claims values that the file does not hold.
        """
        if self.lack or self.storage is None or self.storage.data is None:
            raise NoValuesError(self.lack)
        dtype = NUMPY[self.dtype]
        if not self.size:
            return np.empty(self.shape, dtype)
        values = self.storage.data
        if self.storage.swapped:
            unit = dtype.itemsize // (2 if dtype.kind == "c" else 1)
            values = values.view(np.dtype(f"u{unit}")).byteswap()
        values = values.view(dtype)
        reach = sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if min((self.offset, *self.stride)) < 0 or self.offset + reach >= values.size:
            raise ExcessError("reaches beyond its values")
        strides = [step * dtype.itemsize for step in self.stride]
        part = values[self.offset :]
        array = np.lib.stride_tricks.as_strided(part, self.shape, strides, writeable=False)
        array = array.conj() if self.is_conjugate else array
        return np.asarray(-array if self.is_negative else array)  # of no axes, too


def tensor(storage: Storage, dtype: str, offset: Any, shape: Any, stride: Any) -> Tensor:
    """A tensor whose description comes from a file.

    Raises:
        ValueError: the numbers are not numbers.
    """
    numbers = (offset, *shape, *stride)
    if not all(type(number) is int for number in numbers) or len(shape) != len(stride):
        raise ValueError("a shape that is not of whole numbers")
    if len(shape) > MOST_AXES or any(n < 0 for n in shape):
        raise ValueError("an impossible shape")
    return Tensor(dtype, tuple(shape), storage, tuple(stride), offset)


def dense(data: np.ndarray, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor whose values, as bytes, follow one another in the file."""
    stride = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return Tensor(dtype, shape, Storage(dtype, math.prod(shape), data), tuple(stride))
