"""Splits frames into parts so that all frames of a source are in one part."""

import re
from collections.abc import Iterable

import numpy as np

from flax_unet.utils.errors import InputError

PARTS = ("train", "validation", "test")


def parse_shares(text: str) -> tuple[int, int, int]:
    """Parses `80/10/10`, the per cent of PARTS.

    Raises:
        InputError: the text is not three whole numbers that add up to 100.
    """
    if match := re.fullmatch(r"(\d{1,3})/(\d{1,3})/(\d{1,3})", text):
        train, validation, test = map(int, match.groups())
        if train + validation + test == 100:
            return train, validation, test
    raise InputError(f"--split {text}: expected train/validation/test per cent, such as 80/10/10")


def parse_share(text: str) -> int | None:
    """Parses `10%` as 10; returns None for the name of a split.

    Raises:
        InputError: the text is a number without a per cent sign, or not from 1% to 99%.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        raise InputError(f"--validation {text}: a share is written in per cent, such as 10%")
    match = re.fullmatch(r"(\d+)%", text)
    if match is None:
        return None
    if not 0 < (share := int(match[1])) < 100:
        raise InputError(f"--validation {text}: expected a share from 1% to 99%")
    return share


def held_out(shares: str) -> str | None:
    """The `--split` with the frames that training on shares such as `80/10/10` leaves out.

    They are those of test, or else of validation; None if there are none.
    """
    _, validation, test = parse_shares(shares)
    return shares if test else f"validation:{shares}" if validation else None


def source_of(videos: Iterable[str], originals: Iterable[str]) -> list[str]:
    """The source of each frame: its video, or the real video behind any number of fakes of fakes.

    If a fake was made from several videos, all of them have one of these as their source.
    `originals` has, for each frame, the videos that a fake was made from, one a line, or "". Other
    names there link the videos that have them in common, such as a person's.
    """
    videos = list(videos)
    parents: dict[str, str] = {}

    def root(video: str) -> str:
        path = []
        while (parent := parents.get(video, video)) != video:
            path.append(video)
            video = parent
        parents.update(dict.fromkeys(path, video))  # the next search takes one step
        return video

    for video, names in zip(videos, originals, strict=True):
        first, *others = names.split("\n")
        for below, above in [(video, first), *((other, first) for other in others)]:
            if above and root(below) != root(above):
                parents[root(below)] = root(above)
    return [root(video) for video in videos]


def by_source(
    videos: Iterable[str], originals: Iterable[str], shares: tuple[int, int, int], seed: int
) -> dict[str, np.ndarray]:
    """Splits frames so that all frames of a source are in one part.

    `videos` and `originals` are as for `source_of`, `shares` are per cent of the sources in the
    order of PARTS, and `seed` shuffles the sources.

    Returns:
        The frames' indices by part, ascending; every frame is in exactly one part.
    """
    sources = source_of(videos, originals)
    names = sorted(set(sources))
    order = np.random.default_rng(seed).permutation(len(names))
    # Rounded bounds: each part is within one source of its share.
    bounds = (np.cumsum(shares) * len(names) / 100).round()
    dealt = np.searchsorted(bounds, np.arange(len(names)), side="right")
    part_of = {names[i]: part for i, part in zip(order, dealt, strict=True)}
    parts = np.array([part_of[source] for source in sources], int)
    return {part: np.flatnonzero(parts == number) for number, part in enumerate(PARTS)}
