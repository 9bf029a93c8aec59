"""Markdown and YAML out of JSON that nobody vouches for, in files that tell who wrote them."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONGEST = 200  # characters of a value; longer ones are cut
UNKNOWN = "not recorded"
_MOST = 10  # entries of a list that are shown
_SIGNATURE = "<!-- Written by python -m train.card. SHA-256 of all above: {} -->\n"


def at(value: Any, *names: str) -> Any:
    """What nested objects hold under the names, None where one of them does not."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def entries(value: Any) -> list[Any]:
    """The first entries of a list; none of anything else."""
    return value[:_MOST] if isinstance(value, list) else []


def is_number(value: Any) -> bool:
    """Whether it is a finite number that somebody could mean."""
    return type(value) in (int, float) and abs(value) < 1e15  # false for NaN


def number(value: Any, form: str) -> str:
    """A number formatted by `form`; a dash if it is none."""
    return format(value, form) if is_number(value) else "-"


def line(value: Any) -> str:
    """A text or number as one line of printable characters; UNKNOWN for anything else."""
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    # No line ends, escape sequences, halves of surrogate pairs, or marks that turn the direction.
    text = "".join(char if char.isprintable() else "\ufffd" for char in text) or UNKNOWN
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def code(value: Any) -> str:
    """`line(value)` as a code span, in which Markdown, HTML and addresses mean nothing.

    A backtick becomes an apostrophe: renderers differ in how long a fence may be. Not for cells of
    tables, which a `|` would end.
    """
    text = line(value).replace("`", "'")
    return text if text == UNKNOWN else f"`{text}`"


def yaml(value: dict[str, Any] | list[Any], indent: str = "") -> Iterator[str]:
    """Lines of YAML for nested dictionaries and lists that are not empty.

    Texts are in JSON's quotes, which are YAML's too; they must be printable, as those of `line`.
    Numbers must be such that JSON writes them without an exponent, which YAML 1.1 takes for text.
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


def signed(text: str) -> str:
    """`text` and a line by which `is_signed` knows it."""
    return text + _SIGNATURE.format(hashlib.sha256(text.encode()).hexdigest())


def is_signed(path: Path) -> bool:
    """Whether a file is as `signed` made it, so that nobody's own words are lost with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return text == signed(text[: text.rfind("<!--")])
