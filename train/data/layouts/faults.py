"""Files that cannot be used, reported as one message that names each kind of fault once."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from flax_unet.utils.errors import InputError


class Fault(NamedTuple):
    """Why a file cannot be used."""

    kind: str  # the same text for every file that has this fault
    reason: str  # the kind with the details of the file


class BadFileError(InputError):
    """A file cannot be used; the message is the reason alone, without the file's name."""

    def __init__(self, kind: str, reason: str = "") -> None:
        super().__init__(reason or kind)
        self.fault = Fault(kind, reason or kind)


def fault_of(error: Exception) -> Fault:
    """The fault of a file that raised `error`."""
    if isinstance(error, BadFileError):
        return error.fault
    reason = str(error) or type(error).__name__
    kind = error.strerror if isinstance(error, OSError) else None
    return Fault(kind or reason, reason)


def unusable(name: str, faults: Mapping[str, Fault]) -> InputError:
    """The error for files that someone must repair; `faults` are by file."""
    return InputError(
        f"{name} has {len(faults)} files that cannot be used; repair or remove them, or go on "
        f"without them by --skip-bad:{_listed(faults)}"
    )


def unreadable(name: str, failures: Mapping[str, Fault], faults: Mapping[str, Fault]) -> InputError:
    """The error for files that another attempt may read, so that nothing is packed without them."""
    also = f"\nand {len(faults)} files that cannot be used:{_listed(faults)}" if faults else ""
    return InputError(
        f"{name} has {len(failures)} files that could not be read. Make them readable, or remove "
        f"them, and run this again:{_listed(failures)}{also}"
    )


def by_kind(faults: Mapping[str, Fault]) -> list[str]:
    """A line for each kind, the commonest first: its count, and the first file with its reason."""
    files: dict[str, list[str]] = defaultdict(list)
    for file, fault in sorted(faults.items()):
        files[fault.kind].append(file)
    return [
        f"{f'{len(found)} files, such as' if len(found) > 1 else '1 file,'} {found[0]}: "
        f"{faults[found[0]].reason}"
        for found in sorted(files.values(), key=len, reverse=True)
    ]


def _listed(faults: Mapping[str, Fault]) -> str:
    lines = by_kind(faults)
    if len(lines) < len(faults):
        lines.append("(python -m train.data.audit with --json lists every file)")
    return "".join(f"\n  {line}" for line in lines)
