"""Opens sources of portraits: generated ones, a folder of photos, or the fetched avatars."""

import difflib
from pathlib import Path

from flax_unet.utils.cache import cache_root
from flax_unet.utils.errors import InputError
from train.data.synthetic import avatars
from train.data.synthetic.photos import PhotoPortraits, Photos
from train.data.synthetic.scene import ProceduralPortraits

SOURCES = ("procedural", "avatars")  # by name; anything else is a folder
COUNT = 1500  # generated portraits by default
MIN_COUNT = 10  # so that each of three splits has one

Portraits = ProceduralPortraits | PhotoPortraits


def open_source(
    source: str, *, count: int | None, seed: int, cache: Path | None
) -> ProceduralPortraits | Photos:
    """Opens one of SOURCES, or a folder.

    `count` (None for COUNT) and `seed` are of generated portraits; fetched pictures are kept below
    `cache`, None for `cache_root()`.

    Raises:
        InputError: the source does not exist or cannot be fetched, its count cannot be chosen, or
            the count is below MIN_COUNT.
    """
    if count is not None and source != "procedural":
        raise InputError(f"{count} portraits of {source}: only generated portraits have a count")
    if source == "procedural":
        count = COUNT if count is None else count
        if count < MIN_COUNT:
            raise InputError(f"{count} portraits are too few: at least {MIN_COUNT} are needed")
        return ProceduralPortraits(count, seed)
    if source == "avatars":
        return Photos(avatars.fetch(cache or cache_root()))
    if not Path(source).exists():
        near = difflib.get_close_matches(source, SOURCES, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(
            f"{source} is neither a folder nor a source of portraits ({', '.join(SOURCES)}){hint}"
        )
    return Photos(Path(source))
