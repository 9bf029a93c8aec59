"""File names: printed, and made for results."""

import re

_LONGEST = 120  # bytes of a result's name before its ending; file systems allow 255 in all
_NOWHERE = r'[<>:"/\\|?*]'  # what some file system does not allow in a name


def utf8(name: str) -> str:
    r"""A file's name as text that can be stored: itself, or its other bytes as \x escapes."""
    return name.encode(errors="backslashreplace").decode()


def shown(name: str) -> str:
    r"""A file's name as text on one line of a terminal: control characters as \x escapes too."""
    text = utf8(name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Names:
    """Names for results, each given once."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}  # and the last number behind each

    def new(self, wanted: str) -> str:
        """The name that is wanted, shortened, or with a number where another one has it."""
        stem = re.sub(_NOWHERE, "_", shown(wanted)).lstrip(".") or "_"
        stem = stem.encode()[:_LONGEST].decode(errors="ignore")
        name = stem
        # Some file systems ignore case.
        while name.lower() in self._given:
            self._given[stem.lower()] += 1
            name = f"{stem}-{self._given[stem.lower()]}"
        self._given[name.lower()] = 1
        return name
