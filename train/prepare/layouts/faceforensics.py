"""FaceForensics++ and DeepFakeDetection: sequences by origin or method, and by compression."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from flax_unet.media.videos import SUFFIXES
from flax_unet.utils.errors import InputError
from train.prepare.layouts.pictures import Pictures
from train.prepare.layouts.record import (
    NO_SPLIT,
    Fault,
    Layout,
    ListOptions,
    Video,
    read_json,
)

# DeepFakeDetection lies in the same folders, but its fakes are scored against its own originals.
_DATA_SET, _DATA_SET_OF_ACTORS = "FaceForensics++", "DeepFakeDetection"
_REAL, _FAKE, _ACTORS = "original_sequences", "manipulated_sequences", "actors"
_VIDEOS, _FRAMES, _MASKS = "videos", "frames", "masks"
_PAIR = re.compile(r"(\d+)_(\d+)")  # target and source: videos of `youtube`
_OF_ACTORS = re.compile(r"(\d+)_(\d+)__(.+)__\w+")  # target, source, scene: videos of `actors`
_SCENE = re.compile(r"(\d+)__.+")
_SPLITS = {"train.json": "train", "val.json": "validation", "test.json": "test"}


def _videos(top: Path, options: ListOptions) -> Iterator[Video | Fault]:
    of_splits = options.splits or top / "splits"
    splits = _splits(of_splits, options.splits is not None)
    folders = sorted(
        {
            path.parent
            for side in (_REAL, _FAKE)
            for kind in (_VIDEOS, _FRAMES)
            for path in top.glob(f"{side}/*/*/{kind}")
            if path.parts[-2] != _MASKS
        }
    )
    known = {
        "compression": {folder.name for folder in folders},
        "method": {folder.parts[-2] for folder in folders if folder.parts[-3] == _FAKE},
    }
    options.check(top, known)
    if not splits and {folder.parts[-2] for folder in folders} - {_ACTORS, _DATA_SET_OF_ACTORS}:
        yield Fault(str(of_splits), NO_SPLIT, "note")
    for folder in folders:
        side, method, compression = folder.parts[-3:]
        if not options.takes(compression, method if side == _FAKE else None):
            continue
        masks = _masks(folder)
        for path in _sequences(folder):
            try:
                frames = Pictures.of(path).names if path.is_dir() else ()
                if side == _REAL:
                    yield _real(path, frames, method, compression, splits)
                else:
                    yield _fake(path, frames, method, compression, splits, masks)
            except InputError as error:
                yield Fault(str(path), str(error).removeprefix(f"{path} "))


def _sequences(folder: Path) -> list[Path]:
    """The videos of a folder, and the folders with frames of those that are missing."""
    videos, frames = (
        sorted(path for path in place.iterdir() if not path.name.startswith("."))
        if place.is_dir()
        else []
        for place in (folder / _VIDEOS, folder / _FRAMES)
    )
    videos = [path for path in videos if path.suffix.lower() in SUFFIXES]
    names = {path.stem for path in videos}
    return videos + [path for path in frames if path.is_dir() and path.name not in names]


def _masks(folder: Path) -> dict[str, list[Path]]:
    """The masks of each fake of a folder: a video, then folders with frames."""
    places = (
        folder.parent / _MASKS / _VIDEOS,
        folder.parent / _MASKS / _FRAMES,
        folder / _MASKS,  # DeepfakeBench has them by compression
    )
    found: dict[str, list[Path]] = defaultdict(list)
    for place in places:
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.is_dir() or path.suffix.lower() in SUFFIXES:
                found[path.stem].append(path)
    return found


def _real(
    path: Path, frames: tuple[str, ...], origin: str, compression: str, splits: dict[str, str]
) -> Video | Fault:
    name = path.stem
    scene = _SCENE.fullmatch(name)
    return Video(
        path,
        f"{origin}/{compression}/{name}",
        is_real=True,
        data_set=_DATA_SET_OF_ACTORS if origin == _ACTORS else _DATA_SET,
        compression=compression,
        split=splits.get(name),
        people=(f"actor {scene[1]}" if scene else f"video {name}",),
        frames=frames,
    )


def _fake(
    path: Path,
    frames: tuple[str, ...],
    method: str,
    compression: str,
    splits: dict[str, str],
    masks: dict[str, list[Path]],
) -> Video | Fault:
    if of_actors := _OF_ACTORS.fullmatch(path.stem):
        target, _, scene = of_actors.groups()
        data_set, people, split = _DATA_SET_OF_ACTORS, (f"actor {target}",), None
        originals: tuple[str, ...] = (f"{_ACTORS}/{compression}/{target}__{scene}",)
    elif pair := _PAIR.fullmatch(path.stem):
        data_set, split = _DATA_SET, splits.get(pair[1])
        people = tuple(f"video {name}" for name in pair.groups())  # in every compression
        originals = tuple(f"youtube/{compression}/{name}" for name in pair.groups())
    else:
        return Fault(str(path), "its name is not <target>_<source>, so its originals are unknown")
    found = masks.get(path.stem)
    return Video(
        path,
        f"{method}/{compression}/{path.stem}",
        is_real=False,
        data_set=data_set,
        originals=originals,
        method=method,
        compression=compression,
        split=split,
        people=people,
        # The pictures of masks have the numbers of those of frames.
        mask_video=found[-1 if frames else 0] if found else None,
        frames=frames,
        notes=("its method has masks, but none of it",) if masks and not found else (),
    )


def _splits(folder: Path, is_named: bool) -> dict[str, str]:
    """The official split of each video of `youtube`; empty if `folder` has none of the files.

    Raises:
        InputError: a file cannot be read; some are missing, or all are and the folder `is_named`.
    """
    found = {}
    missing = [file for file in _SPLITS if not (folder / file).is_file()]
    if missing and (is_named or len(missing) < len(_SPLITS)):
        raise InputError(
            f"{folder} has no {missing[0]}; the official splits are {', '.join(_SPLITS)}"
        )
    for file, split in () if missing else _SPLITS.items():
        pairs = read_json(folder / file)
        if not isinstance(pairs, list) or not all(isinstance(pair, list) for pair in pairs):
            raise InputError(f"{folder / file} is not a list of pairs of videos")
        found |= {str(name): split for pair in pairs for name in pair}
    return found


LAYOUT = Layout(
    f"{_REAL}/<origin>/<compression>/{_VIDEOS} or {_FAKE}/<method>/<compression>/{_VIDEOS}, "
    f"or {_FRAMES}/<video>/<n>.png in place of {_VIDEOS}",
    lambda top: any((top / side).is_dir() for side in (_REAL, _FAKE)),
    _videos,
)
