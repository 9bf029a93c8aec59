"""Which files are judged, in which order, and what their results are named."""

import argparse
import hashlib
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from flax_unet.media.discover import Item
from flax_unet.predict.pipeline import lots
from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import Names, shown


class Planned(NamedTuple):
    """A file to judge."""

    number: int  # among all files, from 0
    item: Item
    stem: str  # of the names of what is written


Lot = list[Planned]
"""Files that are judged together, see `pipeline.lots`."""

Plan = list[Lot]
"""All files, their numbers rising."""


class Shard(NamedTuple):
    """One of several parts of the work: number `part` of `parts`, from 1."""

    part: int = 1
    parts: int = 1

    def __str__(self) -> str:
        return f"{self.part}/{self.parts}"


WHOLE = Shard()


def shard(text: str) -> Shard:
    """Reads what the command line and results call a part, such as `2/8`.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part of the work, such as 2/8")
    return Shard(int(part), int(parts))


def plan(items: Iterable[Item], batch_size: int, shard: Shard = WHOLE) -> Plan:
    """The files of a shard, in lots of at most `batch_size`.

    Lots and names do not depend on the shard, so that the results of all can lie in one directory.
    """
    names, numbers = Names(), itertools.count()
    planned = [
        [Planned(next(numbers), item, names.new(item.path.stem)) for item in lot]
        for lot in lots(items, batch_size)
    ]
    return planned[shard.part - 1 :: shard.parts]


def fingerprint(items: Sequence[Item]) -> dict[str, Any]:
    """What parts of the same files have in common: their number, and the SHA-256 of their paths."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(os.fsencode(item.path) + b"\0")
    return {"files": len(items), "paths_sha256": digest.hexdigest()}


def left(plan: Plan, done: Sequence[str]) -> Plan:
    """What is left of a plan whose first files are done, whose names are given.

    The lot of the last of these is there in whole, since its faces are judged together.

    Raises:
        InputError: other files come first now.
    """
    count = len(done)
    for file, name in zip(itertools.chain.from_iterable(plan), done, strict=False):
        if file.item.name != name:
            raise InputError(
                f"the results so far are of other files: they have {shown(name)} where "
                f"{shown(file.item.name)} is now. Put the files back as they were, or begin again "
                "in another directory (--out)"
            )
    if count > sum(map(len, plan)):
        raise InputError(
            f"the results so far are of {count} files, more than there are now. Put the files back "
            "as they were, or begin again in another directory (--out)"
        )
    for number, lot in enumerate(plan):
        if count < len(lot):
            return plan[number:]
        count -= len(lot)
    return []
