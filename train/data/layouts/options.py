"""Options for the files of a folder."""

import argparse
import dataclasses
from typing import Self

from flax_unet.utils.errors import InputError

MASK_THRESHOLD = (
    "for masks in grey levels, 0 to 255: the lowest level that means MANIPULATED, 1 to 255"
)
REAL_LABEL = (
    "the label in metadata.json that means REAL where labels are not REAL and FAKE, such as 0; the "
    "other one means FAKE"
)


@dataclasses.dataclass(frozen=True)
class FolderOptions:
    """How to read what the files of a folder leave open.

    Raises:
        InputError: the threshold is out of range.
    """

    mask_threshold: int | None = None  # None where masks hold classes
    real_label: str | None = None  # compared as text; None for REAL itself

    def __post_init__(self) -> None:
        if self.mask_threshold is not None and not 1 <= self.mask_threshold <= 255:
            raise InputError(f"--mask-threshold {self.mask_threshold}: expected 1 to 255")

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """The options of a command line with `add_options`."""
        return cls(args.mask_threshold, args.real_label)

    def flags(self) -> list[str]:
        """The command line for these options."""
        values = {"--mask-threshold": self.mask_threshold, "--real-label": self.real_label}
        return [str(w) for pair in values.items() if pair[1] is not None for w in pair]


AS_PUBLISHED = FolderOptions()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `FolderOptions.of` reads."""
    parser.add_argument("--mask-threshold", type=int, metavar="T", help=MASK_THRESHOLD)
    parser.add_argument("--real-label", metavar="LABEL", help=REAL_LABEL)
