"""Dataclasses as options: their command line, their file, and the checks of their values."""

import argparse
import dataclasses
import difflib
import functools
import math
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from flax_unet.utils.arguments import image_size
from flax_unet.utils.errors import InputError

_UNSET = "none"  # removes an option's value


def option(
    default: Any,
    meaning: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    choices: tuple[str, ...] = (),
    formerly: str | None = None,
) -> Any:
    """A field with its help text, the values that it allows, and its former name."""
    limits = {"least": least, "most": most, "above": above, "choices": choices}
    metadata = {"help": meaning, "formerly": formerly, **limits}
    return dataclasses.field(default=default, metadata=metadata)


def fields_of(*groups: type) -> dict[str, dataclasses.Field]:
    """Every option of dataclasses by name, in order."""
    return {field.name: field for group in groups for field in dataclasses.fields(group)}


def flag(name: str) -> str:
    """An option's name on the command line."""
    return "--" + name.replace("_", "-")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ints(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        return tuple(int(part) for part in value.split(",") if part)
    return tuple(map(operator.index, value if isinstance(value, list | tuple) else (value,)))


def _size(value: Any) -> int | tuple[int, ...]:
    found = image_size(value) if isinstance(value, str) else _ints(value)
    if not 1 <= len(found) <= 2:
        raise ValueError
    return found[0] if len(set(found)) == 1 else found


# By a field's type without None: the types of its value on a command line (text) or in a file,
# where YAML reads 1e-5 as text and a label 0 as a number; its conversion; what is expected; what
# --help calls it.
_KINDS: dict[Any, tuple[set[type], Callable[[Any], Any], str, str | None]] = {
    bool: ({bool}, bool, "true or false", None),
    int: ({str, int}, int, "a whole number {}", "N"),
    float: ({str, int, float}, float, "a number {}", "X"),
    str: ({str, int, float, bool}, _text, "text", "TEXT"),
    Path: ({str, type(Path())}, Path, "a path", "PATH"),
    tuple[int, ...]: ({str, int, list, tuple}, _ints, "whole numbers {}, such as 1024,512", "N,N"),
    int | tuple[int, int]: (
        *({str, int, list, tuple}, _size),
        *("a whole number {}, or height x width, such as 320x224", "N|HxW"),
    ),
}


def _kind(field: dataclasses.Field) -> tuple[Any, bool]:
    """A field's type without None, and whether it allows None."""
    parts = get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    kinds = [part for part in parts if part is not types.NoneType]
    return functools.reduce(operator.or_, kinds), len(kinds) < len(parts)


def valid(field: dataclasses.Field, value: Any) -> Any:
    """A value from a file or a command line in the field's type.

    Raises:
        InputError: the option does not allow it.
    """
    kind, is_optional = _kind(field)
    if is_optional and value in (None, _UNSET):
        return None
    allowed, convert, expected, _ = _KINDS[kind]
    least, most, above, choices = (field.metadata[k] for k in ("least", "most", "above", "choices"))
    good = type(value) in allowed
    try:
        value = convert(value) if good else value
    except (TypeError, ValueError, argparse.ArgumentTypeError):
        good = False
    if good and "{}" in expected:
        values = value if isinstance(value, tuple) else (value,)
        good = all(
            above < each and least <= each <= most and abs(each) < math.inf for each in values
        )
    if not good or (choices and value not in choices):
        limits = f"of at least {least}" if math.isinf(above) else f"above {above}"
        limits += "" if math.isinf(most) else f", at most {most}"
        expected = f"one of {', '.join(choices)}" if choices else expected.format(limits)
        raise InputError(f"{flag(field.name)} is {value!s:.40}; expected {expected}")
    return value


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def unknown_option(
    text: str, known: Mapping[str, dataclasses.Field], shown: Callable[[str], str] = str
) -> InputError:
    """The error for text that is not an option; `shown` makes what it shows of others' names."""
    name = text.partition("=")[0].removeprefix("--").replace("-", "_")
    for field in known.values():
        if field.metadata["formerly"] == name:
            return InputError(f"{shown(name)} is now {shown(field.name)}")
    near = difflib.get_close_matches(name, [*known, "config"], n=1)
    hint = f"did you mean {shown(near[0])}?" if near else "see --help"
    return InputError(f"{text} is not an option; {hint}")


class OptionParser(argparse.ArgumentParser):
    """The command line of groups of options, each a section of --help, and --config FILE."""

    def __init__(self, *groups: type, **settings: Any) -> None:
        super().__init__(
            usage="%(prog)s [-h] [--config FILE] [--OPTION VALUE ...]",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **settings,
        )
        self._options = fields_of(*groups)
        text = "YAML or JSON file of options by name; the command line overrides it"
        self.add_argument("--config", type=Path, metavar="FILE", help=text)
        for group in groups:
            section = self.add_argument_group(group.__name__.lower(), group.__doc__)
            for field in dataclasses.fields(group):
                (kind, is_optional), choices = _kind(field), field.metadata["choices"]
                text = field.metadata["help"].replace("%", "%%")
                if kind is bool:
                    details: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
                elif choices:
                    details = {"choices": (*choices, *[_UNSET] * is_optional)}
                else:
                    details = {"metavar": _KINDS[kind][-1]}
                if kind is not bool and field.default is not None:
                    text += f" (default: {field.default})"
                section.add_argument(flag(field.name), default=None, help=text, **details)

    def error(self, message: str) -> Any:
        """Raises an InputError, which `flax_unet.utils.errors.command` prints."""
        raise InputError(message)

    def read(self, argv: Sequence[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options of the file that --config names, and the checked ones of a command line.

        Raises:
            InputError: an option does not exist or has a bad value, or the file cannot be read.
        """
        found, unknown = self.parse_known_args(argv)
        if unknown:
            raise unknown_option(unknown[0], self._options, flag)
        given = {name: value for name, value in vars(found).items() if value is not None}
        file = given.pop("config", None)
        given = {name: valid(self._options[name], value) for name, value in given.items()}
        return self._read_file(file) if file else {}, given

    def _read_file(self, path: Path) -> dict[str, Any]:
        import yaml  # not every run has a file

        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, ValueError) as error:
            raise InputError(f"{path} is neither YAML nor JSON: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{path} holds no options; expected lines such as `batch_size: 32`")
        content = {str(name).replace("-", "_"): value for name, value in content.items()}
        for name in content.keys() - self._options:
            raise InputError(f"{path}: {unknown_option(name, self._options)}")
        return content
