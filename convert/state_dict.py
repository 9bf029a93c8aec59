"""State dicts in files: `.pth`, `.pt` or `.safetensors`, read without trusting the file.

Nothing in the file is ever executed, and nothing is allocated that the file is too small to hold.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import torch

from convert import safe_load
from flax_unet.utils.errors import InputError
from flax_unet.utils.files import check_space, staged_file

CONTAINERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network"),
    *("generator", "params", "weights", "module", "ema"),
)
"""Keys under which training scripts put the state dict, the likeliest first."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What DataParallel, torch.compile and Lightning-style wrappers put before every key."""
DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in ("float32", "float16", "bfloat16", "float64", "int64")
}
"""The types of tensors that a state dict may hold, by NumPy's name."""

_PREFIXED = re.compile(f"((?:{'|'.join(map(re.escape, PREFIXES))})*)(?:inc|down|up|outc|linear)")
_DEPTH = 3  # of containers within containers
_MOST_ENTRIES = 4096  # of a list of plain values


class StateDict(NamedTuple):
    """The content of a file."""

    tensors: dict[str, np.ndarray]  # by bare key, in file order, in the stored type
    values: dict[str, Any]  # entries that are not tensors, such as `mask_values`
    order: list[str]  # all keys, as in the file
    container: str  # path of keys to the state dict; "" when the file is one
    prefix: str  # what was taken off every key


def read(path: Path) -> StateDict:
    """Reads the state dict in `path`, on the host, memory-mapped where the format allows it.

    Raises:
        InputError: the file is missing, damaged, of another kind, or would run code.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if not path.is_file():
        raise InputError(f"{path} is not a file; name a .pth, .pt or .safetensors file")
    content = safe_load.load(path)
    found, container = _unwrap(path, content)
    # The wrappers' prefix, such as `module._orig_mod.`, that most of the network's keys have.
    prefixes = Counter(match[1] for key in found if (match := _PREFIXED.match(key)))
    prefix = max(prefixes, key=prefixes.__getitem__, default="")
    size = path.stat().st_size
    tensors: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {}
    order = [key.removeprefix(prefix) for key in found]
    for key, (full_key, value) in zip(order, found.items(), strict=True):
        if isinstance(value, torch.Tensor):
            size -= math.prod(value.shape) * value.element_size()
            if size < 0:
                raise InputError(f"{path} claims more tensors than it can hold, at {full_key}")
            tensors[key] = _to_numpy(path, full_key, value)
        elif _is_plain(value):
            values[key] = value
        else:
            raise InputError(
                f"{path}: {full_key} is a {type(value).__name__}; expected a tensor, or numbers "
                "and text in lists. Save the state dict without it"
            )
    if len(set(order)) < len(order):
        raise InputError(f"{path} has two tensors of one name once the prefix {prefix!r} is off")
    _check_values(path, tensors)
    return StateDict(tensors, values, order, container, prefix)


def _unwrap(path: Path, content: Any) -> tuple[Mapping[str, Any], str]:
    """Descends through containers to the mapping that holds the tensors."""
    steps: list[str] = []
    for _ in range(_DEPTH + 1):
        if not isinstance(content, Mapping):
            break
        if not all(isinstance(key, str) for key in content):
            raise InputError(f"{path} holds keys that are not text; expected a state dict")
        if any(isinstance(value, torch.Tensor) and "." in key for key, value in content.items()):
            return content, ".".join(steps)
        inner = [key for key, value in content.items() if _holds_tensors(value)]
        known = [key for key in CONTAINERS if key in inner]
        if not known and len(inner) > 1:
            raise InputError(
                f"{path} holds several sets of tensors ({', '.join(inner)}) under unknown "
                f"names. Save the right one alone, or under one of {', '.join(CONTAINERS)}"
            )
        if not inner:
            break
        steps.append((known or inner)[0])
        content = content[steps[-1]]
    where = f" under {'.'.join(steps)}" if steps else ""
    found = type(content).__name__
    if isinstance(content, Mapping):
        found += f" with {', '.join(map(str, list(content)[:8]))}"
    raise InputError(
        f"{path} holds no state dict{where}, but a {found}. "
        "Save one with torch.save(model.state_dict(), OUT)"
    )


def _holds_tensors(value: Any, depth: int = _DEPTH) -> bool:
    """Whether there are tensors with dotted names in a mapping, or in one within it."""
    if not isinstance(value, Mapping) or depth == 0:
        return False
    inner = list(itertools.islice(value.items(), _MOST_ENTRIES))
    if any(isinstance(entry, torch.Tensor) and "." in str(key) for key, entry in inner):
        return True
    # Mappings that stand there twice are looked at once: a small file can refer to one very often.
    mappings = {id(entry): entry for _, entry in inner if isinstance(entry, Mapping)}
    return any(_holds_tensors(entry, depth - 1) for entry in mappings.values())


def _is_plain(value: Any, depth: int = 2) -> bool:
    """Whether a value is kept as it is by JSON: numbers and text, and short lists of them."""
    if type(value) is list:
        short = len(value) <= _MOST_ENTRIES and depth > 0
        return short and all(_is_plain(entry, depth - 1) for entry in value)
    return (
        value is None
        or type(value) in (bool, str, int)
        or (type(value) is float and math.isfinite(value))
    )


def _to_numpy(path: Path, key: str, tensor: torch.Tensor) -> np.ndarray:
    """The tensor without a copy, in its own type."""
    where = f"{path}: {key}"
    if tensor.layout != torch.strided or tensor.dtype not in DTYPES.values():
        raise InputError(
            f"{where} is a {tensor.layout} tensor of {tensor.dtype}; expected a dense one of "
            f"{', '.join(DTYPES)}. Quantised models must be saved before they are quantised"
        )
    if tensor.device.type != "cpu" or not tensor.numel():
        raise InputError(
            f"{where} holds no values (shape {tuple(tensor.shape)}, device {tensor.device}). "
            "Save the state dict of a model whose weights are loaded"
        )
    if tensor.dtype == torch.int64 and tensor.ndim:
        raise InputError(f"{where} holds whole numbers; expected floating point")
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _is_rounded(array: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return not np.array_equal(array, array.astype(np.float32))


def from_numpy(array: np.ndarray, dtype: str) -> torch.Tensor:
    """A tensor of the type that `DTYPES` names; the inverse of how `read` makes arrays."""
    array = np.asarray(array, ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype, order="C")
    if dtype == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def write(content: Mapping[str, Any], out: Path) -> None:
    """Writes a state dict with `torch.save`.

    Raises:
        InputError: the disk is full, or `out` cannot be written to.
    """
    with staged_file(out) as stage:
        check_space(out.parent, sum(t.nbytes for t in content.values() if torch.is_tensor(t)))
        try:
            torch.save(content, stage)
        except RuntimeError as error:  # what torch raises when a write fails
            reason = str(error).partition("\n")[0]
            raise InputError(f"{out} cannot be written: {reason}") from error


def _check_values(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuses weights that no network can compute with, all of them in one message."""
    problems = []
    for key, array in tensors.items():
        if bad := array.size - int(np.count_nonzero(np.isfinite(array))):
            problems.append(f"{key}: {bad:,} of {array.size:,} values are NaN or infinite")
        elif array.dtype == np.float64 and _is_rounded(array):
            problems.append(f"{key}: float64 values that float32 would round; save key.float()")
        elif key.endswith("running_var") and array.size and array.min() < 0:
            problems.append(f"{key}: a variance of {array.min()}")
    if problems:
        raise InputError(
            f"{path} holds weights that cannot be used. Where they are not numbers, the training "
            "diverged or the file is damaged: use an earlier checkpoint:\n  "
            + "\n  ".join(problems)
        )
