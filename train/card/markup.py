"""Markdown and YAML from JSON that may be damaged or hostile."""

import json
from collections.abc import Iterator
from typing import Any

LONGEST = 200  # characters of a value; longer ones are cut
UNKNOWN = "not recorded"
_MOST = 10  # entries of a list that are shown


def entries(value: Any) -> list[Any]:
    """The first entries of a list; [] for anything else."""
    return value[:_MOST] if isinstance(value, list) else []


def is_number(value: Any) -> bool:
    """Whether it is a finite number of a plausible size."""
    return type(value) in (int, float) and abs(value) < 1e15  # false for NaN


def number(value: Any, form: str) -> str:
    """A number formatted by `form`; a dash for anything else."""
    return format(value, form) if is_number(value) else "-"


def line(value: Any, longest: int = LONGEST) -> str:
    """A text or number as one line of printable characters; UNKNOWN for anything else."""
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    # Not printable: line ends, escape sequences, lone surrogates, marks of the writing direction.
    text = "".join(char if char.isprintable() else "\ufffd" for char in text) or UNKNOWN
    return text if len(text) <= longest else text[: longest - 1] + "…"


def code(value: Any, longest: int = LONGEST) -> str:
    """`line(value, longest)` as a code span, in which Markdown, HTML and addresses have no effect.

    A backtick becomes an apostrophe, since renderers differ in how long a fence may be. Not for
    cells of tables, which a `|` would end.
    """
    text = line(value, longest).replace("`", "'")
    return text if text == UNKNOWN else f"`{text}`"


def yaml(value: dict[str, Any] | list[Any], indent: str = "") -> Iterator[str]:
    """Lines of YAML for nested dictionaries and lists that are not empty.

    Texts are quoted as in JSON, which YAML reads too; they must be printable, as from `line`.
    JSON must write the numbers without an exponent, since YAML 1.1 reads `1e-5` as text.
    """
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        start = f"{indent}{key}:" if isinstance(value, dict) else f"{indent}-"
        if not isinstance(item, dict | list):
            yield f"{start} {json.dumps(item, ensure_ascii=False)}"
        elif isinstance(value, dict):
            yield start
            yield from yaml(item, indent + "  ")
        else:
            first, *rest = yaml(item, indent + "  ")
            yield f"{start} {first.lstrip()}"
            yield from rest
