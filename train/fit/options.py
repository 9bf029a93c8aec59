"""One option: its type, what it allows, and its value as text, as a Python value and as JSON."""

import argparse
import dataclasses
import math
import types
from pathlib import Path
from typing import Any, get_args, get_origin

from flax_unet.utils.arguments import image_size
from flax_unet.utils.errors import InputError

UNSET = "none"  # takes an option's value away


def option(
    default: Any,
    meaning: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field with its meaning and what values it allows."""
    metadata = {"help": meaning, "least": least, "most": most, "above": above, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def flag(name: str) -> str:
    """An option's name on the command line."""
    return "--" + name.replace("_", "-")


def parse(field: dataclasses.Field, text: str) -> Any:
    """The value that a command line's `text` gives an option, still to be checked."""
    kinds = _kinds(field)
    if text == UNSET and types.NoneType in kinds:
        return None
    try:
        if tuple in kinds and int in kinds:
            return image_size(text)
        if tuple in kinds:
            return tuple(int(part) for part in text.split(",") if part)
        return next(kind for kind in (int, float, str, Path) if kind in kinds)(text)
    except (ValueError, argparse.ArgumentTypeError):
        return text


def valid(field: dataclasses.Field, value: Any) -> Any:
    """`value` in the field's type.

    Raises:
        InputError: the option does not allow it.
    """
    kinds, allowed, given = _kinds(field), field.metadata, value
    if value is None and types.NoneType in kinds:
        return None
    if tuple in kinds:  # a file may give it as text, or one number alone
        value = parse(field, value) if isinstance(value, str) else value
        value = tuple(value) if isinstance(value, list | tuple) else (value,)
        good = all(type(part) is int and 1 <= part <= allowed["most"] for part in value)
        if int in kinds:  # a size: one number, or two that differ
            good = good and 1 <= len(value) <= 2
            value = value[0] if good and len(set(value)) == 1 else value
    elif Path in kinds:
        value, good = Path(str(value)), isinstance(value, str | Path)
    elif float in kinds:
        value = _number(value)  # YAML reads 1e-5 as text
        good = math.isfinite(value) and allowed["least"] <= value <= allowed["most"]
        good = good and value > allowed["above"]
    elif str in kinds and not allowed["choices"]:  # YAML reads 0 and true as other types
        good = isinstance(value, str | bool | int | float)
        value = str(value).lower() if isinstance(value, bool) else str(value)
    elif type(value) is int:
        good = int in kinds and allowed["least"] <= value <= allowed["most"]
    else:
        good = type(value) in kinds and (not allowed["choices"] or value in allowed["choices"])
    if not good:
        raise InputError(f"{flag(field.name)} is {given!s:.40}; expected {_expected(field)}")
    return value


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def _kinds(field: dataclasses.Field) -> set[Any]:
    """The types that a field allows; of a tuple, `tuple`."""
    parts = get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    return {get_origin(part) or part for part in parts}


def _expected(field: dataclasses.Field) -> str:
    kinds, allowed = _kinds(field), field.metadata
    if allowed["choices"]:
        return "one of " + ", ".join(allowed["choices"])
    if tuple in kinds and int in kinds:
        return f"a whole number from 1 to {allowed['most']}, or height x width, such as 320x224"
    if tuple in kinds:
        return "whole numbers of at least 1, such as 1024,512"
    if bool in kinds:
        return "true or false"
    if int in kinds or float in kinds:
        least = f"of at least {allowed['least']}"
        if math.isfinite(allowed["above"]):
            least = f"above {allowed['above']}"
        most = "" if math.isinf(allowed["most"]) else f", at most {allowed['most']}"
        return f"a {'whole ' * (int in kinds)}number {least}{most}"
    return "text"
