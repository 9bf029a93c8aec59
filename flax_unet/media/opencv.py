"""OpenCV, imported when it is first needed, for it belongs to the extra `media`."""

import os
from pathlib import Path
from typing import Any

from flax_unet.utils.filenames import utf8

# What it and its FFmpeg would tell standard error is in exceptions too, or of no use to anybody.
# Both are read at the first import.
_QUIET = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}


def opencv() -> Any:
    """The module `cv2`.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    for name, level in _QUIET.items():
        os.environ.setdefault(name, level)
    import cv2

    return cv2


def file_name(path: Path) -> str | bytes:
    """A path as OpenCV takes it: it crashes on text that is not UTF-8."""
    name = str(path.absolute())  # so that nothing in it is taken for a protocol
    return name if utf8(name) == name else os.fsencode(name)
