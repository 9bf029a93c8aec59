"""Imports OpenCV at its first use: it belongs to the extra `media`."""

import os
from pathlib import Path
from typing import Any

from flax_unet.utils.filenames import utf8


def opencv() -> Any:
    """The module `cv2`.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    # Silences it and its FFmpeg: exceptions hold what matters. Both are read at the first import.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    return cv2


def file_name(path: Path) -> str | bytes:
    """A path for OpenCV, which crashes on text that is not UTF-8."""
    name = str(path.absolute())  # so that nothing in it is taken for a protocol
    return name if utf8(name) == name else os.fsencode(name)
