"""FaceForensics++ with DeepFakeDetection: sequences by origin or method, and by compression."""

import re
from collections.abc import Iterator
from pathlib import Path

from flax_unet.media.videos import SUFFIXES
from flax_unet.utils.errors import InputError
from train.prepare.layouts.record import Fault, Layout, ListOptions, Video, read_json

_DATA_SET = "FaceForensics++"
_REAL, _FAKE = "original_sequences", "manipulated_sequences"
_PAIR = re.compile(r"(\d+)_(\d+)")  # target and source: videos of `youtube`
_OF_ACTORS = re.compile(r"(\d+)_(\d+)__(.+)__\w+")  # target, source, scene: videos of `actors`
_SCENE = re.compile(r"(\d+)__.+")
_SPLITS = {"train.json": "train", "val.json": "validation", "test.json": "test"}


def _videos(top: Path, options: ListOptions) -> Iterator[Video | Fault]:
    splits = _splits(options.splits or top / "splits", options.splits is not None)
    folders = sorted(path for side in (_REAL, _FAKE) for path in top.glob(f"{side}/*/*/videos"))
    known = {
        "compression": {folder.parts[-2] for folder in folders if folder.parts[-2] != "masks"},
        "method": {folder.parts[-3] for folder in folders if folder.parts[-4] == _FAKE},
    }
    for kind, wanted in ("compression", options.compressions), ("method", options.methods):
        for name in wanted:
            if name not in known[kind]:
                there = ", ".join(sorted(known[kind])) or "none"
                raise InputError(f"{top} has no {kind} {name}; there are: {there}")
    for folder in folders:
        side, method, compression, _ = folder.parts[-4:]
        is_left_out = options.compressions and compression not in options.compressions
        if side == _FAKE and options.methods and method not in options.methods:
            is_left_out = True
        if compression == "masks" or is_left_out:
            continue
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                continue
            read = _real if side == _REAL else _fake
            yield read(path, method, compression, splits)


def _real(path: Path, origin: str, compression: str, splits: dict[str, str]) -> Video | Fault:
    name = path.stem
    scene = _SCENE.fullmatch(name)
    return Video(
        path,
        f"{origin}/{compression}/{name}",
        is_real=True,
        data_set=_DATA_SET,
        compression=compression,
        split=splits.get(name),
        person=f"actor {scene[1]}" if scene else f"video {name}",
    )


def _fake(path: Path, method: str, compression: str, splits: dict[str, str]) -> Video | Fault:
    if of_actors := _OF_ACTORS.fullmatch(path.stem):
        target, _, scene = of_actors.groups()
        originals: tuple[str, ...] = (f"actors/{compression}/{target}__{scene}",)
        person, split = f"actor {target}", None
    elif pair := _PAIR.fullmatch(path.stem):
        originals = tuple(f"youtube/{compression}/{name}" for name in pair.groups())
        person, split = f"video {pair[1]}", splits.get(pair[1])
    else:
        return Fault(str(path), "its name is not <target>_<source>, so its originals are unknown")
    mask_video = path.parents[2] / "masks" / "videos" / path.name
    return Video(
        path,
        f"{method}/{compression}/{path.stem}",
        is_real=False,
        data_set=_DATA_SET,
        originals=originals,
        method=method,
        compression=compression,
        split=split,
        person=person,
        mask_video=mask_video if mask_video.is_file() else None,
    )


def _splits(folder: Path, is_named: bool) -> dict[str, str]:
    """The official split of each video of `youtube`."""
    found = {}
    for file, split in _SPLITS.items():
        if not (folder / file).is_file():
            if is_named:
                raise InputError(f"{folder} has no {file}; --splits needs {', '.join(_SPLITS)}")
            continue
        pairs = read_json(folder / file)
        if not isinstance(pairs, list) or not all(isinstance(pair, list) for pair in pairs):
            raise InputError(f"{folder / file} is not a list of pairs of videos")
        found |= {str(name): split for pair in pairs for name in pair}
    return found


LAYOUT = Layout(
    f"{_REAL}/<origin>/<compression>/videos or {_FAKE}/<method>/<compression>/videos",
    lambda top: any((top / side).is_dir() for side in (_REAL, _FAKE)),
    _videos,
)
