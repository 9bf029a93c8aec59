"""What travels in a PyTorch file beside its tensors: records, and the size of pictures.

PyTorch gives a state dict the attribute `_metadata`: a dictionary by the names of modules, "" for
the whole network, in which `load_state_dict` looks for the entries that it knows. There is one more
entry, which is JSON text. In a file of safetensors it is in the header's `__metadata__`.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from convert.pickles import Ordered
from flax_unet.checkpoint.metadata import CALIBRATION, calibration_of
from flax_unet.checkpoint.worth import UNKNOWN, WORTH, Worth
from flax_unet.nn.config import Size, UNetConfig
from flax_unet.utils.errors import InputError

_KEY = "flax_unet"
_IMAGE_SIZE = "image_size"
_WHOLE = ""  # the name of the module that is the whole network
_LARGEST = 2**16  # characters of the JSON text


class Carried(NamedTuple):
    """What a file brings."""

    records: dict[str, Any]  # for `source.json`
    image_size: int | Size | None = None  # what pictures are resized to; None: it does not say


def attach(
    content: Mapping[str, Any], source: Mapping[str, Any], image_size: int | Size | None = None
) -> Mapping[str, Any]:
    """A state dict with the records of a `source.json`; itself if there is nothing to carry.

    `image_size` is what pictures are resized to; None where the layout gives the same.

    Raises:
        InputError: they are too large, or hold numbers that JSON lacks.
    """
    records: dict[str, Any] = {}
    if (known := Worth.of(dict(source))) != UNKNOWN:
        records[WORTH] = known.to_json()
    if isinstance(source.get(CALIBRATION), dict):
        records[CALIBRATION] = source[CALIBRATION]
    if image_size is not None:
        records[_IMAGE_SIZE] = image_size
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

    Anything damaged leaves one record, of `worth`, which `Worth.of` takes for a damaged one.
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
        kept = {name: of for name, of in found.items() if name in (WORTH, CALIBRATION)}
        if not all(isinstance(of, dict) for of in kept.values()):
            raise ValueError("a record of another type")
        if CALIBRATION in kept:
            calibration_of(kept[CALIBRATION])
        size = None
        if _IMAGE_SIZE in found:
            size = UNetConfig(levels=1, decoder_levels=1, image_size=found[_IMAGE_SIZE]).image_size
    except (ValueError, AttributeError, RecursionError):
        return Carried({WORTH: None})
    return Carried(kept, size)
