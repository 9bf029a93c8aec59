"""Options that say how the files of a folder are read."""

import argparse
import dataclasses
from typing import Self

from flax_unet.utils.errors import InputError

MASK_THRESHOLD = (
    "of masks in grey levels, 0 to 255: the lowest level that means MANIPULATED, 1 to 255"
)
REAL_LABEL = (
    "the label in metadata.json that means REAL where labels are not REAL and FAKE, such as 0; the "
    "other one means FAKE"
)


@dataclasses.dataclass(frozen=True)
class Reading:
    """How the files of a folder are read.

    Attributes:
        mask_threshold: the grey level of a mask, 1 to 255, from which on a pixel is MANIPULATED;
            None where masks hold classes.
        real_label: the label that means REAL, compared as text; None for REAL itself.

    Raises:
        InputError: the threshold is out of range.
    """

    mask_threshold: int | None = None
    real_label: str | None = None

    def __post_init__(self) -> None:
        if self.mask_threshold is not None and not 1 <= self.mask_threshold <= 255:
            raise InputError(f"--mask-threshold {self.mask_threshold}: expected 1 to 255")

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """What a command line with `add_options` says."""
        return cls(args.mask_threshold, args.real_label)

    def flags(self) -> list[str]:
        """The command line that says the same."""
        values = {"--mask-threshold": self.mask_threshold, "--real-label": self.real_label}
        return [str(w) for pair in values.items() if pair[1] is not None for w in pair]


AS_PUBLISHED = Reading()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `Reading.of` reads."""
    parser.add_argument("--mask-threshold", type=int, metavar="T", help=MASK_THRESHOLD)
    parser.add_argument("--real-label", metavar="LABEL", help=REAL_LABEL)
