"""Draws a sheet of fakes with their originals and masks, to look at before training."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from flax_unet.media.images import read_image
from train.data.layouts.masks import decode
from train.data.layouts.tree import CROPS, MASKS
from train.prepare import work
from train.prepare.work import Outcome

_COUNT, _ACROSS = 12, 2  # examples on a sheet, and beside each other
_TILE, _GAP, _LINE = 144, 4, 16  # pixels
_LONGEST = 40  # letters of a caption
_RED, _SHARE = (255, 0, 0), 0.45  # of the colour that marks manipulated pixels


def sheet(out: Path, outcomes: Sequence[Outcome]) -> Image.Image | None:
    """Examples of all methods: original, fake, and the fake with its mask in red.

    `outcomes` are the videos that were made, sorted. None if no fake has masks.
    """
    made = {outcome.planned.key: outcome for outcome in outcomes}
    drawn = (_example(out, fake, made) for fake in _chosen(outcomes))
    examples = [example for example in drawn if example is not None]
    if not examples:
        return None
    across, (width, height) = min(len(examples), _ACROSS), examples[0].size
    down = -(-len(examples) // across)
    image = Image.new("RGB", (across * (width + _GAP) - _GAP, down * (height + _GAP)), "white")
    for number, example in enumerate(examples):
        row, column = divmod(number, across)
        image.paste(example, (column * (width + _GAP), row * (height + _GAP)))
    return image


def _chosen(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Fakes with masks, of each method as many, evenly spaced."""
    methods: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        record = outcome.record or {}
        if record["label"] == "FAKE" and record["masks"] is not None:
            methods[str(record["method"])].append(outcome)
    each = max(1, _COUNT // max(1, len(methods)))
    spread = [
        fakes[round(place)]
        for fakes in methods.values()
        for place in np.linspace(0, len(fakes) - 1, min(each, len(fakes)))
    ]
    return spread[:_COUNT]


def _example(out: Path, fake: Outcome, made: dict[str, Outcome]) -> Image.Image | None:
    """One crop of a fake, of the middle of those with a mask, beside the same of its original.

    None if files were taken away since they were made.
    """
    record = json.loads(work.record_path(out, fake.planned).read_text(encoding="utf-8"))
    masks = work.folder(out, fake.planned, MASKS)
    names = [
        f"{frame['number']}_{person}" for frame in record["frames"] for person in frame["faces"]
    ]
    names = [name for name in names if (masks / f"{name}.gif").is_file()]
    name = names[len(names) // 2] if names else ""
    crop = _crop(work.folder(out, fake.planned, CROPS), name)
    if not name or crop is None:
        return None
    mask = decode((masks / f"{name}.gif").read_bytes()) != 0
    pixels = np.array(crop, np.float64)
    pixels[mask] = (1 - _SHARE) * pixels[mask] + _SHARE * np.array(_RED)
    originals = [made[key] for key in fake.planned.originals[:1] if key in made]
    original = _crop(work.folder(out, originals[0].planned, CROPS), name) if originals else None
    tiles = (original, crop, Image.fromarray(pixels.astype(np.uint8)))
    image = Image.new("RGB", (len(tiles) * (_TILE + _GAP), _TILE + _LINE), "white")
    for number, tile in enumerate(tiles):
        if tile is not None:
            tile = tile.resize((_TILE, _TILE), Image.Resampling.LANCZOS)
            image.paste(tile, (number * (_TILE + _GAP), 0))
    caption = f"{fake.planned.key[:_LONGEST]}: original, fake, manipulated"
    ImageDraw.Draw(image).text((0, _TILE + 2), _ascii(caption), fill="black")
    return image


def _ascii(text: str) -> str:
    """Without the letters that a simple font may lack."""
    return text.encode("ascii", "replace").decode()


def _crop(folder: Path, name: str) -> Image.Image | None:
    """A crop by its name without suffix; None if the video lacks it."""
    found = next(folder.glob(f"{name}.*"), None)
    return read_image(found) if found else None
