"""Which files are judged, in which order, and what their results are named."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from flax_unet.media.discover import Item
from flax_unet.predict.pipeline import lots
from flax_unet.utils.filenames import Names


class Planned(NamedTuple):
    """A file to judge."""

    number: int  # among all files, from 0
    item: Item
    stem: str  # of the names of what is written


Plan = list[list[Planned]]
"""Files in lots (see `pipeline.lots`), their numbers rising."""


def plan(items: Iterable[Item], batch_size: int) -> Plan:
    """All files, in lots of at most `batch_size`."""
    names, numbers = Names(), itertools.count()
    return [
        [Planned(next(numbers), item, names.new(item.path.stem)) for item in lot]
        for lot in lots(items, batch_size)
    ]
