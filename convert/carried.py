"""What travels in a PyTorch file beside its tensors: records, and the size of pictures.

PyTorch gives a state dict the attribute `_metadata`: a dictionary by the names of modules, "" for
the whole network, in which `load_state_dict` looks for the entries that it knows. There is one more
entry, which is JSON text. In a file of safetensors it is in the header's `__metadata__`.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from convert.layout import usual_size
from convert.pickles import Ordered
from flax_unet.checkpoint.metadata import CALIBRATION, calibration_of
from flax_unet.checkpoint.worth import UNKNOWN, WORTH, Worth
from flax_unet.nn.config import UNetConfig
from flax_unet.utils.errors import InputError

_KEY = "flax_unet"
_IMAGE_SIZE = "image_size"
_WHOLE = ""  # the name of the module that is the whole network
_LARGEST = 2**16  # characters of the JSON text


class Carried(NamedTuple):
    """What a file brings."""

    records: dict[str, Any]  # for `source.json`
    # What pictures are resized to, as `UNetConfig.image_size`; it is checked where it is used.
    image_size: Any = None


def attach(
    content: Mapping[str, Any], source: Mapping[str, Any], config: UNetConfig
) -> Mapping[str, Any]:
    """A state dict with the records of a `source.json`, and the size of pictures.

    The size is left out where it is the usual one. If there is nothing to carry, it is the state
    dict itself.

    Raises:
        InputError: they are too large, or hold numbers that JSON lacks.
    """
    records: dict[str, Any] = {}
    if (known := Worth.of(dict(source))) != UNKNOWN:
        records[WORTH] = known.to_json()
    if isinstance(source.get(CALIBRATION), dict):
        records[CALIBRATION] = source[CALIBRATION]
    if config.image_size != usual_size(config.levels):
        records[_IMAGE_SIZE] = config.image_size
    if not records:
        return content
    try:
        text = json.dumps(records, allow_nan=False)
    except ValueError as error:
        raise InputError(f"{CALIBRATION} in source.json cannot be carried: {error}") from error
    if len(text) > _LARGEST:
        raise InputError(
            f"{CALIBRATION} in source.json has {len(text):,} characters; {_LARGEST:,} at most can "
            "be carried"
        )
    carrying = OrderedDict(content)
    carrying.__dict__["_metadata"] = {_WHOLE: {"version": 1, _KEY: text}}
    return carrying


def with_header(tensors: dict[str, Any], header: dict[str, str] | None) -> Ordered:
    """The tensors of a safetensors file with its `__metadata__`, as a pickle would hold both."""
    ordered = Ordered(tensors)
    ordered.state = {"_metadata": {_WHOLE: header or {}}}
    return ordered


def find(content: Mapping[Any, Any]) -> Carried:
    """What a state dict of a file carries.

    Damaged records become one of `worth`, which `Worth.of` takes for a damaged one.
    """
    text = content.state if isinstance(content, Ordered) else None
    for name in ("_metadata", _WHOLE, _KEY):
        text = text.get(name) if isinstance(text, dict) else None
    if text is None:
        return Carried({})
    try:
        if not isinstance(text, str) or len(text) > _LARGEST:
            raise ValueError("not a short text")
        found = json.loads(text)
        json.dumps(found, allow_nan=False)  # also refuses 1e999, which is read as infinity
        size = found.get(_IMAGE_SIZE)
    except (ValueError, AttributeError, RecursionError):
        return Carried({WORTH: None})
    kept = {name: of for name, of in found.items() if name in (WORTH, CALIBRATION)}
    try:
        if not all(isinstance(of, dict) for of in kept.values()):
            raise ValueError("a record of another type")
        if CALIBRATION in kept:
            calibration_of(kept[CALIBRATION])
    except ValueError:
        return Carried({WORTH: None}, size)
    return Carried(kept, size)
