"""Dataclasses as options: their command line, their file, the checks of their values."""

import argparse
import dataclasses
import difflib
import functools
import math
import operator
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
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
) -> Any:
    """A field with its help text and the values that it allows."""
    metadata = {"help": meaning, "least": least, "most": most, "above": above, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def flag(name: str) -> str:
    """An option's name on the command line."""
    return "--" + name.replace("_", "-")


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _int(value: Any) -> int:
    value = int(value) if isinstance(value, str) else value
    if type(value) is not int:
        raise ValueError
    return value


def _float(value: Any) -> float:  # YAML reads 1e-5 as text
    value = math.nan if isinstance(value, bool) else float(value)
    if not math.isfinite(value):
        raise ValueError
    return value


def _str(value: Any) -> str:  # YAML reads 0 and true as other types
    if not isinstance(value, str | bool | int | float):
        raise ValueError
    return str(value).lower() if isinstance(value, bool) else str(value)


def _several(value: Any) -> tuple[int, ...]:
    parts = [part for part in value.split(",") if part] if isinstance(value, str) else value
    return tuple(map(_int, parts if isinstance(parts, list | tuple) else (parts,)))


def _size(value: Any) -> int | tuple[int, ...]:
    found = image_size(value) if isinstance(value, str) else _several(value)
    if not 1 <= len(found) <= 2:
        raise ValueError
    return found[0] if len(set(found)) == 1 else found


# By a field's type without None: how its value is read, what is expected, how --help calls it.
_KINDS: dict[Any, tuple[Callable[[Any], Any], str, str | None]] = {
    bool: (_bool, "true or false", None),
    int: (_int, "a whole number {}", "N"),
    float: (_float, "a number {}", "X"),
    str: (_str, "text", "TEXT"),
    Path: (Path, "a path", "PATH"),
    tuple[int, ...]: (_several, "whole numbers {}, such as 1024,512", "N,N"),
    int | tuple[int, int]: (
        _size,
        "a whole number {}, or height x width, such as 320x224",
        "N|HxW",
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
    read, expected, _ = _KINDS[kind]
    least, most, above, choices = (field.metadata[k] for k in ("least", "most", "above", "choices"))
    try:
        value = read(value)
        good = not choices or value in choices
    except (TypeError, ValueError, argparse.ArgumentTypeError):
        good = False
    if good and "{}" in expected:
        values = value if isinstance(value, tuple) else (value,)
        good = all(above < each and least <= each <= most for each in values)
    if not good:
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


def fields_of(groups: Sequence[type]) -> dict[str, dataclasses.Field]:
    """Every option by name, in order."""
    return {field.name: field for group in groups for field in dataclasses.fields(group)}


def unknown_option(text: str, known: Iterable[str], renamed: Mapping[str, str]) -> InputError:
    """The error for a name, or a word of a command line, that is not an option.

    Args:
        text: the name or the word.
        known: the names of all options.
        renamed: the present names of options that had others.
    """
    name, shown = text.partition("=")[0], flag if text.startswith("-") else str
    name = name.removeprefix("--").replace("-", "_")
    if name in renamed:
        return InputError(f"{shown(name)} is now {shown(renamed[name])}")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {shown(near[0])}?" if near else "see --help"
    return InputError(f"{text} is not an option; {hint}")


class OptionParser(argparse.ArgumentParser):
    """The command line of groups of options, and --config for a file of them."""

    def __init__(self, groups: Sequence[type], renamed: Mapping[str, str], **settings: Any) -> None:
        """Adds the options.

        Args:
            groups: dataclasses whose fields are made by `option`. Each is a section of --help, and
                its docstring the section's text.
            renamed: the present names of options that had others.
            settings: of `argparse.ArgumentParser`.
        """
        super().__init__(
            usage="%(prog)s [-h] [--config FILE] [--OPTION VALUE ...]",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **settings,
        )
        self._options, self._renamed = fields_of(groups), renamed
        help_text = "YAML or JSON file of options by name; the command line overrides it"
        self.add_argument("--config", type=Path, metavar="FILE", help=help_text)
        for group in groups:
            section = self.add_argument_group(group.__name__.lower(), group.__doc__)
            for field in dataclasses.fields(group):
                kind, is_optional = _kind(field)
                text = field.metadata["help"].replace("%", "%%")
                if kind is bool:
                    action: Any = argparse.BooleanOptionalAction
                    section.add_argument(flag(field.name), action=action, help=text)
                    continue
                if field.default is not None:
                    text += f" (default: {field.default})"
                choices = field.metadata["choices"]
                choices = (*choices, _UNSET) if choices and is_optional else choices or None
                metavar = None if choices else _KINDS[kind][2]
                section.add_argument(flag(field.name), choices=choices, metavar=metavar, help=text)

    def error(self, message: str) -> Any:
        """Raises the InputError that `flax_unet.utils.errors.command` prints."""
        raise InputError(message)

    def read(self, argv: Sequence[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options of the file that --config names, and the checked ones of a command line.

        Raises:
            InputError: an option does not exist or has a bad value, or the file cannot be read.
        """
        found, unknown = self.parse_known_args(argv)
        if unknown:
            raise unknown_option(unknown[0], [*self._options, "config"], self._renamed)
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
        for name in content:
            if name not in self._options:
                error = unknown_option(name, self._options, self._renamed)
                raise InputError(f"{path}: {error}")
        return content
