"""The state dict of one network in the content of a checkpoint, under the published names.

What stands before `inc.double_conv` is the prefix of a network. Names that wrappers put into keys
come out anywhere, and the parent project's older names become today's. What is not below the prefix
is company: it is kept, and comes back unchanged.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convert import carried, file_kind
from convert.computed import Computed, computed, is_mask
from convert.mapping import BLOCK
from convert.networks import (
    DEPTH,
    IS_WRAPPER,
    MOST_ENTRIES,
    Network,
    containers,
    is_module,
    networks,
    whole_model,
)
from convert.pickles import Inert, type_name
from convert.safe_load import Loaded
from convert.tensors import NUMPY, NoValuesError, Tensor
from flax_unet.utils.errors import InputError, on_one_line
from flax_unet.utils.filenames import shown
from flax_unet.utils.files import check_space, staged_file

if TYPE_CHECKING:
    import torch

CONTAINERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network"),
    *("generator", "params", "weights", "module", "ema"),
)
"""Keys under which training scripts put the state dict, the likeliest first."""
DTYPES = ("float32", "float16", "bfloat16", "float64", "int64")
"""The types of tensors that a network's state dict may hold."""
COMPANY = "company"
"""Name of the bytes of tensors that are kept as they are, beside other unused tensors."""
_BLOCK = re.compile(rf"((?:.*?\.)?){BLOCK}", re.DOTALL)
# Prefixes that `to_torch` leaves off, so that the original's class loads its file.
_LEFT_OFF = re.compile(r"(?:(?:module|_orig_mod|model|net|network)\.)*")
_FLATTENED = re.compile(r"(^|\.)_?flat_param(_\d+)?$")  # by FSDP
_OLD_NAMES = (  # of the parent project, and today's
    (re.compile(r"^inc\.conv\.conv\."), "inc.double_conv."),
    (re.compile(r"^(down\d+)\.mpconv\.1\.conv\."), r"\1.maxpool_conv.1.double_conv."),
    (re.compile(r"^(up\d+)\.conv\.conv\."), r"\1.conv.double_conv."),
)

_MOST_SETS = 10  # that a message names
_MOST_SHARING = 8  # names under which a module may stand
_MOST_EXPANDED = 2**26  # bytes that tensors may have beyond the values that they repeat
_QUANTISED = "Quantised models must be saved before they are quantised"


class StateDict(NamedTuple):
    """One network of a file."""

    entries: dict[str, Any]  # tensors and values by the file's keys, in its order
    names: dict[str, str]  # file's key -> published name; of those below the prefix
    computed: dict[str, Computed]  # by published name
    container: str  # path of keys to the state dict; "" when the file is one
    prefix: str  # what stands before the network's keys
    others: dict[str, str]  # file's key -> whose it is; of tensors of other networks
    brought: carried.Carried  # beside the tensors

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Those of the entries that are tensors."""
        return {key: of for key, of in self.entries.items() if isinstance(of, Tensor)}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of what is below the prefix, by published name; () for values."""
        parts = {part for of in self.computed.values() for part in of.parts}
        shapes = {
            name: value.shape if isinstance(value := self.entries[key], Tensor) else ()
            for key, name in self.names.items()
            if name not in parts
        }
        return shapes | {name: of.shape for name, of in self.computed.items()}

    @property
    def is_wrapped(self) -> bool:
        """Whether the network stands in usual wrappers alone, or in none."""
        return _LEFT_OFF.fullmatch(self.prefix) is not None and all(
            key.removeprefix(self.prefix) == name for key, name in self.names.items()
        )


@on_one_line()
def find(path: Path, loaded: Loaded, key: str | None = None) -> StateDict:
    """The state dict of the one network in a file, or of that which `key` names.

    Raises:
        InputError: there is none, or there are several and `key` names none of them.
    """
    content = loaded.content
    if is_module(content):
        raise InputError(f"{path} {whole_model(content)}")
    sets = networks(content)
    chosen = sets if key is None else _chosen(path, sets, key)
    if len(chosen) > 1:
        names = [network.name for network in sets[:_MOST_SETS]]
        names += [f"and {len(sets) - _MOST_SETS:,} more"] * (len(sets) > _MOST_SETS)
        notes = [
            f"{of.name} {of.obstacle}. " if of.obstacle else of.note for of in sets[:_MOST_SETS]
        ]
        raise InputError(
            f"{path} holds several sets of tensors ({', '.join(names)}). {''.join(notes)}Save the "
            "right one alone, or choose it: "
            + file_kind.command("convert.from_torch", path, "--key", names[0])
        )
    _refuse_flattened(path, chosen[0].entries if chosen else content)
    network = chosen[0] if chosen else _without_network(path, content)
    if network.obstacle:
        raise InputError(f"{path}: {network.name} {network.obstacle}")
    others = {
        key: f"of another network, {of.name}"
        for of in sets
        if of is not network and of.shared is network.entries
        for key in of.keys
    }
    names = {
        key: _published(key.removeprefix(network.prefix))
        for key in network.entries
        if isinstance(key, str) and key.startswith(network.prefix)
    }
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise InputError(
            f"{path} has two tensors of the name {twice[0]} once the prefix {network.prefix!r} "
            "and the names of wrappers are off"
        )
    entries = dict(network.entries)
    _check_entries(path, loaded, entries)
    tensors = {name: of for key, name in names.items() if isinstance(of := entries[key], Tensor)}
    brought = carried.Carried({}) if others else carried.find(network.entries)  # of one network
    parts = computed(tensors)
    return StateDict(entries, names, parts, network.container, network.prefix, others, brought)


def _chosen(path: Path, sets: list[Network], key: str) -> list[Network]:
    """The networks that `key` names: by the whole name, or by a part that only one has."""
    exact = [network for network in sets if network.name == key]
    parts = [network for network in sets if f".{key}." in f".{network.name}."]
    chosen = exact or parts
    if len(chosen) != 1:
        names = ", ".join(network.name for network in sets[:_MOST_SETS]) or "none"
        raise InputError(f"{path}: --key {key} does not name one of its networks ({names})")
    return chosen


def _refuse_flattened(path: Path, content: Any) -> None:
    """Refuses what FSDP saves of a model in pieces: many parameters in one row of numbers."""
    for _, mapping in containers(content):
        for key, value in mapping.items():
            if isinstance(value, Tensor) and isinstance(key, str) and _FLATTENED.search(key):
                raise InputError(
                    f"{path} holds parameters that FSDP has flattened ({key}), whose names and "
                    "shapes are lost. Save a full state dict where it was trained: with "
                    "FSDP.state_dict_type(model, StateDictType.FULL_STATE_DICT): "
                    "torch.save(model.state_dict(), OUT)"
                )


def _refuse_objects(path: Path, content: Any) -> None:
    """Refuses a state dict whose values are NumPy arrays or other objects."""
    for _, mapping in containers(content):
        for key, value in mapping.items():
            if isinstance(value, Inert) and isinstance(key, str) and _BLOCK.match(key):
                is_array = value.name.startswith("numpy.")
                what = "a NumPy array" if is_array else f"an object ({value.name})"
                raise InputError(
                    f"{path} holds no state dict: {key} is {what}, not a tensor. Where it was "
                    "made, save tensors: torch.save({key: torch.as_tensor(value).cpu() for key, "
                    "value in state_dict.items()}, OUT)"
                )


def _published(key: str) -> str:
    """A key below the prefix as the published files spell it."""
    key = IS_WRAPPER.sub("", key)
    for old, new in _OLD_NAMES:
        key = old.sub(new, key)
    return key


def _without_network(path: Path, content: Any) -> Network:
    """The likeliest state dict of a file without a network, for a message on how it differs."""
    steps: list[str] = []
    for _ in range(DEPTH + 1):
        if not isinstance(content, Mapping):
            break
        if is_module(content):
            raise InputError(f"{path} {whole_model(content)}")
        if not all(isinstance(key, str) for key in content):
            raise InputError(f"{path} holds keys that are not text; expected a state dict")
        if any(isinstance(value, Tensor) and "." in key for key, value in content.items()):
            prefixes = Counter(match[1] for key in content if (match := _BLOCK.match(key)))
            prefix = max(prefixes, key=prefixes.__getitem__, default="")
            return Network("", content, ".".join(steps), prefix)
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
    if isinstance(content, Mapping):
        for value in content.values():
            if is_module(value):
                raise InputError(f"{path} {whole_model(value)}")
    _refuse_objects(path, content)
    where = f" under {'.'.join(steps)}" if steps else ""
    found = type_name(content)
    if isinstance(content, Mapping):
        found += (
            f" with {', '.join(map(str, list(content)[:8]))}" if content else " without entries"
        )
    raise InputError(
        f"{path} holds no state dict{where}, but a {found}. "
        "Save one with torch.save(model.state_dict(), OUT)"
    )


def _holds_tensors(value: Any, depth: int = 3) -> bool:
    """Whether there are tensors with dotted names in a mapping, or in one within it."""
    if not isinstance(value, Mapping) or depth == 0:
        return False
    inner = list(itertools.islice(value.items(), MOST_ENTRIES))
    if any(isinstance(entry, Tensor) and "." in str(key) for key, entry in inner):
        return True
    # Mappings that stand there twice are looked at once: a small file can refer to one very often.
    mappings = {id(entry): entry for _, entry in inner if isinstance(entry, Mapping)}
    return any(_holds_tensors(entry, depth - 1) for entry in mappings.values())


def _check_entries(path: Path, loaded: Loaded, entries: Mapping[str, Any]) -> None:
    """Refuses entries that cannot come back, and tensors that the file is too small for.

    Tensors may share their values, and repeat them: each is stored by itself later.
    """
    size = _MOST_SHARING * loaded.size + _MOST_EXPANDED
    for key, value in entries.items():
        if not isinstance(key, str):
            raise InputError(f"{path} holds keys that are not text; expected a state dict")
        if isinstance(value, Tensor):
            size -= value.nbytes if value.lack is None else 0
            if size < 0:
                raise InputError(f"{path} claims more tensors than it can hold, at {key}")
        elif "._packed_params." in key:
            raise InputError(f"{path}: {key} is of a quantised layer. {_QUANTISED}")
        elif not _is_plain(value):
            raise InputError(
                f"{path}: {key} is a {type_name(value)}; expected a tensor, or numbers "
                "and text in lists. Save the state dict without it"
            )


def _is_plain(value: Any, depth: int = 2) -> bool:
    """Whether a value is kept as it is by JSON: numbers and text, and short lists of them."""
    if type(value) is list:
        short = len(value) <= MOST_ENTRIES and depth > 0
        return short and all(_is_plain(entry, depth - 1) for entry in value)
    return (
        value is None
        or type(value) in (bool, str, int)
        or (type(value) is float and math.isfinite(value))
    )


def read(path: Path, found: StateDict, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The tensors of the network by published name, those in parts computed, in the stored type.

    Raises:
        InputError: one has no values, is of another type than weights are, or not finite.
    """
    keys = {name: key for key, name in found.names.items()}

    @on_one_line()
    def array(name: str) -> np.ndarray:
        key = keys[name]
        of: Tensor = found.entries[key]
        if is_mask(name) and of.dtype in NUMPY and NUMPY[of.dtype].kind in "biu":
            return stored(path, key, of)
        if of.layout != "strided" or (of.dtype not in DTYPES):
            advice = "" if of.dtype == "bool" else f". {_QUANTISED}"
            raise InputError(
                f"{path}: {key} is a {of.layout} tensor of torch.{of.dtype}; expected a dense one "
                f"of {', '.join(DTYPES)}{advice}"
            )
        is_counter = name.endswith(".num_batches_tracked")
        if of.dtype == "int64" and of.shape and of.size and not is_counter:
            raise InputError(f"{path}: {key} holds whole numbers; expected floating point")
        return stored(path, key, of)

    arrays = {}
    for name in names:
        parts = found.computed.get(name)
        arrays[name] = parts.compute(*map(array, parts.parts)) if parts else array(name)
    _check_values(path, arrays)
    return arrays


@on_one_line()
def stored(path: Path, key: str, of: Tensor) -> np.ndarray:
    """The values of a tensor, of whatever type.

    Raises:
        InputError: it has none that can be read.
    """
    try:
        return of.array()
    except NoValuesError as error:
        raise InputError(
            f"{path}: {key} {error}. Save the state dict of a model whose weights are loaded, or "
            "without this tensor"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path} is truncated or damaged: {key} {error}. Download or copy it again"
        ) from error


def _is_rounded(array: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return not np.array_equal(array, array.astype(np.float32))


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
            + "\n  ".join(map(shown, problems))
        )


def from_numpy(array: np.ndarray, dtype: str) -> "torch.Tensor":
    """A tensor of PyTorch's type of that name: values that are rounded to it, if need be."""
    import torch

    if not array.size:
        return torch.empty(array.shape, dtype=getattr(torch, dtype))
    array = np.asarray(array, NUMPY[dtype], order="C")
    values = torch.from_numpy(array.reshape(-1).view(np.uint8).copy())
    return values.view(getattr(torch, dtype)).reshape(array.shape)


def write(content: Mapping[str, Any], out: Path) -> None:
    """Writes a state dict with `torch.save`.

    Raises:
        InputError: the disk is full, or `out` cannot be written to.
    """
    import torch

    with staged_file(out) as stage:
        check_space(out.parent, sum(t.nbytes for t in content.values() if torch.is_tensor(t)))
        try:
            torch.save(content, stage)
        except RuntimeError as error:  # what torch raises when a write fails
            reason = str(error).partition("\n")[0]
            raise InputError(f"{out} cannot be written: {reason}") from error
