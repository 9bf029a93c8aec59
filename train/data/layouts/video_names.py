"""Finds the video of a crop, from its path and the videos' names in the metadata.

A crop belongs to

1. the innermost folder below `crops/` with the name of a video, with or without the suffix of the
   video's file: `<video>/<n>.png`, `<video>/<frame>_<actor>.png`; without such a folder, to
2. the longest video that the crop's own name begins with, followed by `_` or the end:
   `<video>_<n>.png`, `<video>_<frame>_<actor>.png`.

Names with two readings are refused, not guessed. `docs/data.md` has an example of each; the rules
stand at `VideoNames.of` and what it calls. A name's pattern is the name with each run of letters
and each run of digits taken as one sign.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from flax_unet.media.videos import SUFFIXES
from train.data.layouts.faults import BadFileError

_WORD, _NUMBER = re.compile(r"[^\W\d_]+"), re.compile(r"\d+")
_FRAME = re.compile(r"\d+(_\d+)?")  # a crop in its video's folder: the frame, and which face


class VideoNames:
    """The videos of a metadata file, which `of` finds from the paths of crops."""

    def __init__(self, videos: Iterable[str]) -> None:
        self._videos: dict[str, list[str]] = defaultdict(list)  # by name without suffix
        for video in dict.fromkeys(videos):
            self._videos[_stem(video)].append(video)
        self._patterns = {_pattern(stem) for stem in self._videos}
        self._has_underscores = any("_" in stem for stem in self._videos)
        self._words: dict[str, str] = {}  # of names with underscores; a video that has the word
        for stem, found in self._videos.items():
            if "_" in stem:
                self._words |= dict.fromkeys(_words(stem), found[0])

    def named(self, name: str) -> list[str]:
        """The videos with this name, with or without suffix; else the name itself."""
        found = self._videos.get(_stem(name), [name])
        return [name] if name in found else found

    def of(self, crop: str) -> str:
        """The video of a crop, given by its path below `crops/`, with suffix.

        Raises:
            BadFileError: the video is missing in the metadata, or ambiguous.
        """
        *folders, file = PurePosixPath(crop).parts
        name = PurePosixPath(file).stem
        folder = next((f for f in reversed(folders) if _stem(f) in self._videos), None)
        found = next((part for part in _beginnings(name) if part in self._videos), None)
        if folder is not None:
            video, stem = self._only(_stem(folder), folder), _stem(folder)
            # Folder and crop disagree, unless `000_003/120_0.png` is frame 120 of `000_003`.
            if found is not None and found != stem and not _is_frame(name, found, stem):
                raise _ambiguous(video, self._only(found))
            self._check_words(crop, video)
            return video
        if found is None:
            raise _unknown(folders, name)
        video = self._only(found)
        if other := self._other_reading(folders, name, found):
            raise _ambiguous(video, other)
        self._check_words(crop, video)
        return video

    def _only(self, stem: str, exact: str = "") -> str:
        """The video of this name; of several the one named `exact`."""
        found = self._videos[stem]
        if exact in found:
            return exact
        if len(found) > 1:
            raise _ambiguous(*found[:2])
        return found[0]

    def _other_reading(self, folders: list[str], name: str, found: str) -> str:
        """Another video that a crop outside a video's folder may belong to, or ""."""
        parts = list(_beginnings(name))
        longer, shorter = parts[: parts.index(found)], parts[1:] if name == found else []
        # `000_003/120_0.png`: the metadata may lack the video that the folder is named for.
        if found.isdecimal() and (above := next(filter(self._may_be_video, folders[::-1]), "")):
            return above
        # `000_003_0.png`: the metadata may lack the fake `000_003`.
        if longer and not self._is_rest(name.removeprefix(f"{found}_"), found):
            return longer[-1]
        # With the videos `a` and `b_7`, `a_5_0.png` may be of `a_5`. With `000` and `000_003`,
        # `000_003.png` is frame 3 of one or the only crop of the other.
        return next((p for p in longer[1:] + shorter if _pattern(p) in self._patterns), "")

    def _may_be_video(self, folder: str) -> bool:
        """Whether a folder's name, or its beginning, has a pattern with digits of a video."""
        beginnings = (part for part in _beginnings(folder) if _NUMBER.search(part))
        return any(_pattern(part) in self._patterns for part in beginnings)

    def _is_rest(self, rest: str, video: str) -> bool:
        """Whether the rest of a name, after the video and an underscore, leaves no other video."""
        if video.isdecimal():  # in FaceForensics++, `000_003` is a fake of `000`
            return rest.isdecimal()
        if _FRAME.fullmatch(rest):
            return True
        # Without underscores, as in DFDC, the name up to its first one is the video.
        has_other = any(part in self._videos for part in rest.split("_"))
        return not self._has_underscores and not has_other

    def _check_words(self, crop: str, video: str) -> None:
        """Raises BadFileError if the path has a word of another video's name."""
        others = _words(str(PurePosixPath(crop).with_suffix(""))) - _words(_stem(video))
        if found := next((word for word in sorted(others) if word in self._words), ""):
            raise _ambiguous(video, f"one named like {self._words[found]}")


def _is_frame(name: str, found: str, folder: str) -> bool:
    """Whether a crop's name is a frame's number, although it begins with the video `found`."""
    is_pair_of_folder = name == found and name.startswith(f"{folder}_")
    return _FRAME.fullmatch(name) is not None and not is_pair_of_folder


def _stem(video: str) -> str:
    """A video's name without the suffix of its file."""
    path = PurePosixPath(video)
    return video[: -len(path.suffix)] if path.suffix.lower() in SUFFIXES else video


def _beginnings(name: str) -> Iterator[str]:
    """The whole name, then the part before each underscore, the longest first."""
    while name:
        yield name
        name = name.rpartition("_")[0]


def _words(path: str) -> set[str]:
    """The parts between slashes and underscores that are not numbers, in lower case."""
    return {part for part in re.split("[/_]", path.lower()) if part and not part.isdecimal()}


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
