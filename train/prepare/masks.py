"""Marks manipulated pixels: where crops differ from their originals, or by a mask video."""

from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from flax_unet.media.faces import opencv
from flax_unet.media.images import read_image
from train.data.layouts.masks import save
from train.prepare import frames
from train.prepare.crops import Crops, Frame, Size
from train.prepare.layouts.pictures import Pictures
from train.prepare.layouts.record import Source

THRESHOLD = 0.05  # of 1 - SSIM above its level at the edges; docs/prepare.md has others
_EDGE = 1 / 8  # of the crop's sides: what lies outside the face
_QUANTILE = 0.95  # of 1 - SSIM at an edge
_WINDOW = 1 / 16  # of the crop's shorter side: the neighbourhood that SSIM compares
_LEAST_WINDOW = 7  # pixels
_SPECK = 1 / 64  # of the crop's width: the radius of what counts as a speck
_BICUBIC = Image.Resampling.BICUBIC
_WHITE = 128  # in mask videos, this grey level and those above mean manipulated


def untouched(crops: Crops, folder: Path) -> None:
    """Writes empty masks for the crops of a real video."""
    for frame in crops.frames:
        for person, box in frame.faces.items():
            mask = np.zeros((box.height, box.width), bool)
            save(mask, folder / frame.crop_name(person, "gif"))


def by_similarity(crops: Crops, originals: Path, threshold: float, folder: Path) -> None:
    """Writes the masks of a fake's crops by their difference from those in `originals`.

    Crops that `originals` lacks have no masks.
    """
    missing = 0
    for frame in crops.frames:
        for person in frame.faces:
            name = frame.crop_name(person, crops.format)
            if not (originals / name).is_file():
                missing += 1
                continue
            crop, original = (read_image(at / name) for at in (crops.folder, originals))
            if crops.size != crops.scale:  # the fake's frames were resized to the original's
                sides = zip(original.size, crops.size, crops.scale, strict=True)
                width, height = (max(1, round(side * own / of)) for side, own, of in sides)
                original = resampled(original, (width, height))
            original = original.resize(crop.size, _BICUBIC)
            mask = differing(np.asarray(crop), np.asarray(original), threshold)
            save(mask, folder / frame.crop_name(person, "gif"))
    if missing:
        crops.notes.append(f"{missing} of its crops have no masks: its original lacks their frames")


def resampled(image: Image.Image, size: Size) -> Image.Image:
    """A picture without the detail that resizing it to (width, height) and back costs."""
    return image.resize(size, _BICUBIC).resize(image.size, _BICUBIC)


def of_video(crops: Crops, of: Source, source: Source, folder: Path) -> None:
    """Writes the masks of the crops of `of` as its mask video has them in the same frames.

    Raises:
        InputError: it cannot be read.
    """
    wanted: dict[int, list[Frame]] = defaultdict(list)
    added = frames.shift(source, of, crops.notes)
    for frame, own in zip(crops.frames, crops.shown, strict=True):
        wanted[own.number + added].append(frame)
    for number, _, image in frames.numbered(source, {*wanted}, []):
        grey = image.convert("L").resize(crops.scale, Image.Resampling.BILINEAR)
        for frame in wanted.pop(number):
            for person, box in frame.faces.items():
                mask = np.asarray(grey.crop(box)) >= _WHITE
                save(mask, folder / frame.crop_name(person, "gif"))
    if wanted:
        lack = "masks lack" if isinstance(source, Pictures) else "mask video lacks"
        crops.notes.append(f"its {lack} {len(wanted)} of its frames")


def differing(crop: np.ndarray, original: np.ndarray, threshold: float) -> np.ndarray:
    """Where two pictures (H, W, 3) uint8 differ: (H, W) bool, without specks, gaps and holes.

    There 1 - SSIM, the mean of the colours, is above its level at the edges by `threshold`.
    """
    from scipy import ndimage  # these take half a second to import
    from skimage.metrics import structural_similarity
    from skimage.morphology import disk

    side = min(crop.shape[:2])
    window = min(max(_LEAST_WINDOW, round(_WINDOW * side)), side - 1) // 2 * 2 + 1
    similarity = structural_similarity(
        original, crop, win_size=window, channel_axis=-1, data_range=255, full=True
    )[1]
    cv2, radius = opencv(), max(1, round(_SPECK * crop.shape[1]))
    difference = 1 - similarity.mean(axis=-1)
    mask = (difference > _level(difference) + threshold).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disk(radius))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disk(2 * radius))
    return np.asarray(ndimage.binary_fill_holes(mask))


def _level(difference: np.ndarray) -> float:
    """How much crops differ where nothing was manipulated, for example by their compression.

    It is the median of the four edges, so that a face may lie at one of them.
    """
    down, across = (max(1, round(_EDGE * side)) for side in difference.shape)
    edges = difference[:down], difference[-down:], difference[:, :across], difference[:, -across:]
    return float(np.median([np.quantile(edge, _QUANTILE) for edge in edges]))
