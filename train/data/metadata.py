"""metadata.json: which videos are fake, and what they were made from."""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax_unet.errors import InputError
from flax_unet.names import utf8

NAME = "metadata.json"
LABELS = {"REAL": 1, "FAKE": 0}


def read(path: Path) -> dict[str, Any]:
    """The entries of a metadata file, by video.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    if not path.is_file():
        raise InputError(f"{path} is no regular file; it tells which videos are FAKE")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        metadata = json.loads(content.decode("utf-8-sig"))  # with a byte order mark or without
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise InputError(f"{path} holds a {type(metadata).__name__}; expected an object by video")
    return metadata


def label_and_original(metadata: Mapping[str, Any], video: str) -> tuple[int, str]:
    """The label of a video, a value of LABELS, and the video that a fake was made from, or "".

    Raises:
        InputError: there is no such entry, or it cannot be used; the message is the reason alone.
    """
    entry = metadata.get(video)
    if entry is None:
        raise InputError(f"its video {video} is not in {NAME}")
    label = entry.get("label") if isinstance(entry, dict) else None
    if not isinstance(label, str) or label not in LABELS:
        raise InputError(f"the label of {video} is {reprlib.repr(label)}; expected REAL or FAKE")
    original = entry.get("original") or ""
    if not isinstance(original, str) or utf8(original) != original:
        raise InputError(
            f"the original of {video} is {reprlib.repr(original)}; expected a video's name"
        )
    return LABELS[label], original
