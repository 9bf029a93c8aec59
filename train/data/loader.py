"""Loads frames: decodes stored bytes, resizes them, and stacks them to batches."""

import contextlib
import functools
from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from flax_unet.media.images import resized
from flax_unet.nn.config import Size
from train.data.dataset import Dataset
from train.data.layouts import image_files, masks
from train.data.prefetch import prefetch

_BATCHES_AHEAD = 4
_MIN_FRAMES_AHEAD = 64  # so that the network does not wait where batches are small


class Batch(NamedTuple):
    """Frames of one step. Padding is black and has `position` -1."""

    image: np.ndarray  # (B, H, W, 3) uint8
    mask: np.ndarray  # (B, H, W) uint8: 0 untouched, 1 manipulated, 0 without a label
    has_mask: np.ndarray  # (B,) bool: whether the frame has a mask label
    position: np.ndarray  # (B,) int64: row of the data set's table, -1 for padding


def load_frame(dataset: Dataset, row: int, size: Size) -> Batch:
    """One frame without a batch axis, resized to (height, width) by PIL's NEAREST, as published."""
    record = dataset.record(row)
    pixels = resized(image_files.decode(record["image"]), size)
    classes = np.zeros(size, np.uint8)
    if record["mask"]:
        mask = Image.fromarray(masks.decode(record["mask"]))
        classes = np.asarray(mask.resize((size[1], size[0]), Image.Resampling.NEAREST))
    return Batch(pixels, classes, np.asarray(bool(record["mask"])), np.asarray(row))


def batches(
    dataset: Dataset,
    size: Size,
    batch_size: int,
    *,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
) -> Generator[Batch]:
    """Every frame of this process's share once, in order, resized to (height, width).

    Process p gets the frames p, p + processes, ...; all processes get the same number of batches
    of `batch_size` frames, the last ones padded. `workers` are as for `prefetch`.
    """
    rows = range(process, len(dataset), processes)
    read = functools.partial(load_frame, dataset.pictures(), size=size)
    black = np.zeros((*size, 3), np.uint8)
    padding = Batch(black, black[..., 0], np.asarray(False), np.asarray(-1))
    with contextlib.closing(prefetch(read, rows, frames_ahead(batch_size), workers)) as frames:
        for _ in range(0, -(-len(dataset) // processes), batch_size):
            yield stack([next(frames, padding) for _ in range(batch_size)])


def frames_ahead(batch_size: int) -> int:
    """How many frames are decoded before the network asks for them."""
    return max(_BATCHES_AHEAD * batch_size, _MIN_FRAMES_AHEAD)


def stack(frames: Sequence[Batch]) -> Batch:
    """Frames as a batch, along a new first axis."""
    return Batch(*(np.stack(field) for field in zip(*frames, strict=True)))
