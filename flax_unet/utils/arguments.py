"""What the command lines share: an option, types of arguments, and the name of the program."""

import argparse
import re
import sys
from pathlib import Path


def program_name(module: str) -> str:
    """How this process was started: `flax-unet COMMAND`, or else `python -m MODULE`."""
    if Path(sys.argv[0]).stem == "flax-unet" and len(sys.argv) > 1:
        return f"flax-unet {sys.argv[1]}"
    return f"python -m {module}"


def at_least_one(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text}")
    return int(text)


def at_least_zero(text: str) -> int:
    """A whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text}")
    return int(text)


def image_size(text: str) -> tuple[int, int]:
    """A picture's (height, width): `320x224`, or `224` for a square."""
    if match := re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text):
        return int(match[1]), int(match[2] or match[1])
    raise argparse.ArgumentTypeError(
        f"expected height x width in pixels, such as 320x224, or one number, got {text}"
    )


def between_0_and_1(text: str) -> float:
    """A number above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and below 1, got {text}")
    return value


def add_threshold(parser: argparse.ArgumentParser) -> None:
    """Adds --threshold, of commands that judge faces; None: as the checkpoint says."""
    parser.add_argument(
        "--threshold",
        type=between_0_and_1,
        metavar="T",
        help="a face is FAKE from this probability of FAKE on, the calibrated one where the "
        "checkpoint has a calibration (default: its threshold, else 0.5, as published)",
    )
