"""Reads metadata.json: each video's label, the videos that a fake was made from, and traits."""

import json
import reprlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import shown, utf8
from train.data.layouts.faults import BadFileError
from train.data.layouts.video_names import VideoNames

NAME = "metadata.json"
LABELS = {"real": 1, "fake": 0}  # in upper case, lower case, or both
TRAITS = ("data_set", "compression", "method")  # what figures are given by, the method of fakes
SOURCE_GROUP = "source_group"  # what videos of one source have in common


class Metadata:
    """The entries of a metadata file, by video.

    `labels` are in lower case, with 1 = REAL, 0 = FAKE. `videos` are those of all metadata files of
    the data set, to find originals.
    """

    def __init__(self, entries: dict[str, Any], labels: dict[str, int], videos: VideoNames) -> None:
        self._entries, self._labels, self._all_videos = entries, labels, videos
        self.videos = VideoNames(entries)

    def label(self, video: str) -> int:
        """The label of a video: 1 = REAL, 0 = FAKE.

        Raises:
            BadFileError: the label is not known.
        """
        found = _label_of(self._entries[video])
        if (text := _text(found)) in self._labels:
            return self._labels[text]
        raise BadFileError(
            "its label is not known",
            f"the label of {video} is {reprlib.repr(found)}; expected REAL or FAKE, or the label "
            "that --real-label LABEL names as REAL and one other",
        )

    def traits(self, video: str) -> dict[str, str]:
        """What is known of TRAITS and SOURCE_GROUP of a video, as text on one line.

        Raises:
            BadFileError: the source group is neither a text nor a whole number.
        """
        entry, names = self._entries[video], (*TRAITS, SOURCE_GROUP)
        if (group := entry.get(SOURCE_GROUP)) is not None and not _is_trait(group):
            raise BadFileError(
                f"its {SOURCE_GROUP} is not a name",
                f"the {SOURCE_GROUP} of {video} is {reprlib.repr(group)}; expected a text such as "
                "a person's name, a whole number, or null",
            )
        return {name: shown(text) for name in names if (text := _trait(entry.get(name)))}

    def originals(self, video: str) -> list[str]:
        """The videos that a fake was made from; empty for a real video, or if unknown.

        A name with or without suffix becomes the key of the metadata; an unknown name stays.

        Raises:
            BadFileError: the entry cannot be used.
        """
        found = self._entries[video].get("original") or []
        names = [found] if isinstance(found, str) else found
        if isinstance(names, list) and all(_is_name(name) for name in names):
            return [video for name in names for video in self._all_videos.named(name)]
        raise BadFileError(
            "its original is not a video's name",
            f"the original of {video} is {reprlib.repr(found)}; expected a video's name, or a list "
            "of names",
        )


def read_all(paths: Collection[Path], real_label: str | None) -> dict[Path, Metadata]:
    """Reads the metadata files of a data set.

    If `real_label` is given, that label means REAL, and the only other one FAKE. Labels are
    compared as text in lower case.

    Raises:
        InputError: a file cannot be read or is not metadata, or the labels of all files contradict
            `real_label`.
    """
    files = {path: _read(path) for path in paths}
    videos = VideoNames(video for entries in files.values() for video in entries)
    labels = LABELS
    if real_label is not None:
        values = (_label_of(entry) for entries in files.values() for entry in entries.values())
        found = {text for value in values if (text := _text(value))}
        labels = _polarity(" and ".join(map(str, paths)), found, _text(real_label))
    return {path: Metadata(entries, labels, videos) for path, entries in files.items()}


def _label_of(entry: object) -> object:
    return entry.get("label") if isinstance(entry, dict) else None


def _polarity(files: str, found: set[str], real_label: str) -> dict[str, int]:
    """The meaning of each label in `found`, given which one means REAL."""
    shown = ", ".join(sorted(found)[:10])
    known = f"the labels {shown}, of which"
    problems = (
        (real_label not in found, f"only the labels {shown}"),
        (
            "real" in found and real_label != "real",
            f"{known} REAL and FAKE have their meaning; leave the option out",
        ),
        (real_label == "fake", f"{known} FAKE cannot mean REAL; name another"),
        (len(found) > 2, f"{len(found)} labels ({shown}); expected two, the other means FAKE"),
    )
    if problem := next((text for is_present, text in problems if is_present), None):
        raise InputError(f"--real-label {real_label}: the data set has {problem}; see {files}")
    return {text: int(text == real_label) for text in found}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} is not a regular file; expected the labels of the videos")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        metadata = json.loads(content.decode("utf-8-sig"))  # with a byte order mark or without
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise InputError(f"{path} holds a {type(metadata).__name__}; expected an object by video")
    return metadata


def _text(label: object) -> str:
    """A label as text to compare: 0, 0.0 and `"0"` are equal, and so are true and `"True"`."""
    is_label = isinstance(label, str | bool | int | float)
    return str(label).lower().removesuffix(".0") if is_label else ""


def _is_trait(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _trait(value: object) -> str:
    return str(value).strip() if _is_trait(value) else ""


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name != "" and utf8(name) == name and "\n" not in name
