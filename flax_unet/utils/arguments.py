"""Types of arguments that several commands take."""

import argparse
import re

from flax_unet.nn.config import Size


def at_least_one(text: str) -> int:
    """A whole number from 1.

    Raises:
        argparse.ArgumentTypeError: the text is none.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text}")
    return int(text)


def image_size(text: str) -> Size:
    """A picture's (height, width): `320x224`, or `224` for a square.

    Raises:
        argparse.ArgumentTypeError: the text is something else.
    """
    if match := re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text):
        return int(match[1]), int(match[2] or match[1])
    raise argparse.ArgumentTypeError(
        f"expected height x width in pixels, such as 320x224, or one number, got {text}"
    )


def between_0_and_1(text: str) -> float:
    """A number above 0 and below 1.

    Raises:
        argparse.ArgumentTypeError: the text is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and below 1, got {text}")
    return value
