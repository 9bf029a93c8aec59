"""Decides before any work on each video's name and split, and on what it is compared with."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence

from flax_unet.utils.filenames import Names
from train.data.splits import PARTS, by_source, source_of
from train.prepare.layouts.record import Identity, Video

Shares = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Planned:
    """A video with its place in the result."""

    video: Video
    key: str  # of its folders and, with .mp4, of its entry in metadata.json
    split: str
    originals: tuple[str, ...]  # keys
    source_group: str  # the same for all videos that a split keeps together


Group = list[Planned]
"""A real video and the fakes that are compared with it, or one video alone."""


def plan(videos: Sequence[Video], shares: Shares, seed: int) -> list[Group]:
    """Groups of videos, which are independent of each other.

    `shares` are the per cent of train, validation and test, for videos without an official split.
    """
    names = Names()
    keys = {video.identity: names.new(_slug(video.name)) for video in videos}
    absent = {(video.data_set, name) for video in videos for name in video.originals} - keys.keys()
    keys |= {identity: names.new(_slug(identity[1])) for identity in sorted(absent)}
    splits, sources = _splits(videos, shares, seed), _sources(videos)
    groups: dict[Identity, Group] = {}
    for video in sorted(videos, key=lambda video: not video.is_real):  # originals come first
        identity = video.identity
        originals = [(video.data_set, name) for name in video.originals]
        data_set, source = sources[identity]
        planned = Planned(
            *(video, keys[identity], splits[identity], tuple(keys[o] for o in originals)),
            source_group=f"{keys[data_set, source]}.mp4"
            if (data_set, source) in keys
            else f"{data_set}: {source}",
        )
        is_compared = originals and originals[0] in groups
        groups.setdefault(originals[0] if is_compared else identity, []).append(planned)
    return list(groups.values())


def _slug(name: str) -> str:
    """A name without the signs that end a video's name in crops' paths, see `docs/data.md`."""
    return re.sub(r"[/\\_.]", "-", name)


def _sources(videos: Sequence[Video]) -> dict[Identity, Identity]:
    """The source of each video: a video, or a person as `_links` names one."""
    of_sets: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        of_sets[video.data_set].append(video)
    return {
        (data_set, video.name): (data_set, source)
        for data_set, found in of_sets.items()
        for video, source in zip(
            found, source_of([video.name for video in found], map(_links, found)), strict=True
        )
    }


def _links(video: Video) -> str:
    """What a video has in common with others of its source, one a line."""
    return "\n".join([*video.originals, *(f"person {name}" for name in video.people)])


def _splits(videos: Sequence[Video], shares: Shares, seed: int) -> dict[Identity, str]:
    """The split of each video: the official one, or else by source and person."""
    splits = {video.identity: video.split for video in videos if video.split is not None}
    officials: dict[str, set[str]] = defaultdict(set)
    for (data_set, _), split in splits.items():
        officials[data_set].add(split)
    _spread(splits, videos)
    of_sets: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        if video.identity not in splits:
            of_sets[video.data_set].append(video)
    for data_set, rest in of_sets.items():
        names, links = [video.name for video in rest], [_links(video) for video in rest]
        parts = by_source(names, links, _left(shares, officials[data_set]), seed)
        for part, rows in parts.items():
            splits |= {rest[row].identity: part for row in rows}
    return splits


def _spread(splits: dict[Identity, str], videos: Sequence[Video]) -> None:
    """Adds fakes of videos in `splits`, originals of fakes there, and so on.

    One that is linked with several parts is in the strictest: test, then validation, then train.
    """
    linked: dict[Identity, list[Identity]] = defaultdict(list)
    for video in videos:
        for name in video.originals:
            fake, original = video.identity, (video.data_set, name)
            linked[fake].append(original)
            linked[original].append(fake)
    for part in reversed(PARTS):
        reached = {one for one, split in splits.items() if split == part}
        while reached:
            reached = {other for one in reached for other in linked[one]} - splits.keys()
            splits |= dict.fromkeys(reached, part)


def _left(shares: Shares, taken: set[str]) -> Shares:
    """The shares of the parts that official splits do not fill, scaled up to 100 per cent."""
    left = [0 if part in taken else share for part, share in zip(PARTS, shares, strict=True)]
    if "train" in taken or not any(left):  # what the official splits do not name is for training
        return 100, 0, 0
    validation, test = (round(100 * share / sum(left)) for share in left[1:])
    return 100 - validation - test, validation, test
