"""Files that cannot be used, as one message that lists all of them."""

from collections.abc import Mapping

from flax_unet.errors import InputError


def unusable(name: str, faults: Mapping[str, str]) -> InputError:
    """For what stays as it is until someone repairs it; `faults` gives each file's reason."""
    return InputError(
        f"{name} has {len(faults)} files that cannot be used; repair or remove them, or go on "
        f"without them by --skip-bad:{_listed(faults)}"
    )


def unreadable(name: str, failures: Mapping[str, str], faults: Mapping[str, str]) -> InputError:
    """For what may work the next time, so that nothing is packed without it."""
    also = f"\nand {len(faults)} files that cannot be used:{_listed(faults)}" if faults else ""
    return InputError(
        f"{name} has {len(failures)} files that could not be read. Make them readable, or remove "
        f"them, and run this again:{_listed(failures)}{also}"
    )


def _listed(faults: Mapping[str, str]) -> str:
    return "".join(f"\n  {file}: {reason}" for file, reason in sorted(faults.items()))
