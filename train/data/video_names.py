"""Which video a crop belongs to, found from its path and the videos' names in the metadata.

A crop belongs to

1. the innermost folder below `crops/` that is named for a video, with or without the suffix of the
   video's file: `<video>/<n>.png`, `<video>/<frame>_<actor>.png`; where there is none, to
2. the longest video that its own name begins with, followed by `_` or the end:
   `<video>_<n>.png`, `<video>_<frame>_<actor>.png`.

What can be read in two ways is refused, not guessed:

- The folder is named for one video, the crop for another. (`120_0.png` in the folder `000_003` is
  not: it is frame 120, though there is a video `120`.)
- Two videos differ by their suffix alone.
- The whole name is a video, and the part before one of its `_` is a video or has the pattern of
  one: `000_003.png` is either the only crop of `000_003` or frame 3 of `000`.
- A longer part of the name, with something behind it, has the pattern of a video: with the videos
  `a1` and `a2_b7`, `a1_b5_0.png` may be of a video `a1_b5` that the metadata lacks.
- The video is a number, and what follows is not one number alone. In FaceForensics++, `000_003` is
  a fake of `000`: `000_003_0.png` is not taken for a frame of `000` where the fake is missing.
- The video is a number, and a folder above the crop has digits in its name: `120_0.png` in the
  folder `000_003` where the metadata lacks that video.

A pattern is a name with each run of letters and each run of digits taken as one sign. Where no
video's name has an underscore or is a number, as in DFDC, only the first two points can occur, and
the name up to its first underscore is the video.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from flax_unet.videos import SUFFIXES
from train.data.faults import BadFileError

_WORD, _NUMBER = re.compile(r"[^\W\d_]+"), re.compile(r"\d+")
_FRAME = re.compile(r"\d+(_\d+)?")  # a crop in its video's folder: the frame, and which face


class VideoNames:
    """The videos of a metadata file, to be found from the paths of crops."""

    def __init__(self, videos: Iterable[str]) -> None:
        self._videos: dict[str, list[str]] = defaultdict(list)  # by name without suffix
        for video in videos:
            self._videos[_stem(video)].append(video)
        self._patterns = {_pattern(stem) for stem in self._videos}

    def of(self, crop: str) -> str:
        """The video of a crop.

        Args:
            crop: its path below `crops/`, with suffix.

        Raises:
            BadFileError: it is of no video, or may be of several.
        """
        *folders, file = PurePosixPath(crop).parts
        name = PurePosixPath(file).stem
        folder = next((f for f in reversed(folders) if _stem(f) in self._videos), None)
        found = next((part for part in _beginnings(name) if part in self._videos), None)
        if folder is not None:
            video, stem = self._only(_stem(folder), folder), _stem(folder)
            if found is not None and found != stem and not _is_frame(name, found, stem):
                raise _ambiguous(video, self._only(found))
            return video
        if found is None:
            raise _unknown(folders, name)
        video = self._only(found)
        if other := self._other_reading(folders, name, found):
            raise _ambiguous(video, other)
        return video

    def _only(self, stem: str, exact: str = "") -> str:
        """The video of this name; among several the one of the suffix that `exact` has."""
        found = self._videos[stem]
        if exact in found:
            return exact
        if len(found) > 1:
            raise _ambiguous(*found[:2])
        return found[0]

    def _other_reading(self, folders: list[str], name: str, found: str) -> str:
        """Another video that a crop in no video's folder may be of, or ""."""
        parts = list(_beginnings(name))
        if found.isdecimal():
            if above := next((f for f in reversed(folders) if _NUMBER.search(f)), ""):
                return above
            if name != found and not name.removeprefix(f"{found}_").isdecimal():
                return parts[parts.index(found) - 1]
        longer, shorter = parts[1 : parts.index(found)], parts[1:] if name == found else []
        return next((p for p in longer + shorter if _pattern(p) in self._patterns), "")


def _is_frame(name: str, found: str, folder: str) -> bool:
    """Whether a crop's name is a frame's number, though it begins with the video `found`."""
    is_pair_of_folder = name == found and name.startswith(f"{folder}_")
    return _FRAME.fullmatch(name) is not None and not is_pair_of_folder


def _stem(video: str) -> str:
    """A video's name without the suffix of its file."""
    path = PurePosixPath(video)
    return video[: -len(path.suffix)] if path.suffix.lower() in SUFFIXES else video


def _beginnings(name: str) -> Iterator[str]:
    """The whole name, then what stands before each underscore, the longest first."""
    while name:
        yield name
        name = name.rpartition("_")[0]


def _pattern(name: str) -> str:
    return _NUMBER.sub("0", _WORD.sub("a", name))


def _unknown(folders: list[str], name: str) -> BadFileError:
    reason = f"its video {name.partition('_')[0]}.mp4 is not in metadata.json"
    if folders:
        reason = f"metadata.json has no video of its folder's name {folders[-1]}, or of its own"
    return BadFileError("its video is not in metadata.json", reason)


def _ambiguous(one: str, other: str) -> BadFileError:
    return BadFileError(
        "its video is ambiguous",
        f"its video may be {one} or {other}; rename it, or name its folder as its video",
    )
