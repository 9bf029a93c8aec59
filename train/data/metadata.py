"""metadata.json: which videos are fake, and what they were made from."""

import json
import reprlib
from pathlib import Path
from typing import Any

from flax_unet.errors import InputError
from flax_unet.names import utf8
from train.data.faults import BadFileError
from train.data.video_names import VideoNames

NAME = "metadata.json"
LABELS = {"real": 1, "fake": 0}  # in upper case, lower case, or both


class Metadata:
    """The entries of a metadata file, by video.

    Args:
        path: the file.
        real_label: the label that means REAL where labels are not REAL and FAKE; the other label
            then means FAKE. Labels are compared as text, without regard to case.

    Raises:
        InputError: the file cannot be read, holds something else, or contradicts `real_label`.
    """

    def __init__(self, path: Path, real_label: str | None = None) -> None:
        self._entries = _read(path)
        self._labels = LABELS if real_label is None else self._polarity(path, _text(real_label))
        self.videos = VideoNames(self._entries)

    def label(self, video: str) -> int:
        """The label of a video: 1 = REAL, 0 = FAKE.

        Raises:
            BadFileError: there is no such entry, or its label is not known.
        """
        found = self._label(video)
        if (text := _text(found)) in self._labels:
            return self._labels[text]
        raise BadFileError(
            "its label is not known",
            f"the label of {video} is {reprlib.repr(found)}; expected REAL or FAKE, or the label "
            "that --real-label LABEL names as REAL and one other",
        )

    def originals(self, video: str) -> list[str]:
        """The videos that a fake was made from; none of a real video, or where it is not known.

        Raises:
            BadFileError: the entry cannot be used.
        """
        found = self._entries[video].get("original") or []
        names = [found] if isinstance(found, str) else found
        if isinstance(names, list) and all(_is_name(name) for name in names):
            return names
        raise BadFileError(
            "its original is no video's name",
            f"the original of {video} is {reprlib.repr(found)}; expected a video's name, or a list "
            "of names",
        )

    def _label(self, video: str) -> object:
        entry = self._entries[video]
        return entry.get("label") if isinstance(entry, dict) else None

    def _polarity(self, path: Path, real_label: str) -> dict[str, int]:
        """The meaning of each label, given which one means REAL."""
        found = {text for video in self._entries if (text := _text(self._label(video)))}
        shown = ", ".join(sorted(found)[:10])
        if real_label not in found:
            raise InputError(f"--real-label {real_label}: {path} has only the labels {shown}")
        if found & LABELS.keys() and real_label != "real":
            raise InputError(
                f"--real-label {real_label}: {path} has the labels {shown}, of which REAL and FAKE "
                "have their meaning; leave the option out"
            )
        if len(found) > 2:
            raise InputError(
                f"--real-label {real_label}: {path} has {len(found)} labels ({shown}); expected "
                "two, of which the other means FAKE"
            )
        return {text: int(text == real_label) for text in found}


def _read(path: Path) -> dict[str, Any]:
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


def _text(label: object) -> str:
    """A label to compare: 0, 0.0 and `"0"` are the same, and so are true and `"True"`."""
    is_label = isinstance(label, str | bool | int | float)
    return str(label).lower().removesuffix(".0") if is_label else ""


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name != "" and utf8(name) == name and "\n" not in name
