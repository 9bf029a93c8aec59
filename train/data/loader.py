"""From stored bytes to batches: decoded and resized in threads, ahead of the network."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import grain
import numpy as np
from PIL import Image

from flax_unet.media.images import resized
from flax_unet.nn.config import Size
from train.data.dataset import Dataset
from train.data.layouts import image_files, masks
from train.data.processors import processors

_PREFETCHED = 4  # batches decoded ahead of the network
_MIN_PREFETCHED = 64  # frames, so that small batches do not make the network wait


class Batch(NamedTuple):
    """Frames of one step. Padding is black and has `position` -1."""

    image: np.ndarray  # (B, H, W, 3) uint8
    mask: np.ndarray  # (B, H, W) uint8: 0 untouched, 1 manipulated, 0 without a label
    has_mask: np.ndarray  # (B,) bool: whether the frame has a mask label
    position: np.ndarray  # (B,) int64: row of the data set's table, -1 for padding


def decode(image: bytes, mask: bytes, size: Size, position: int = 0) -> Batch:
    """One stored frame without a batch axis, by the published preprocessing: PIL's NEAREST.

    Args:
        image: the bytes of a picture file.
        mask: the bytes of a mask's file, b"" without a label.
        size: (height, width) of the result.
        position: row of the data set's table.
    """
    pixels = resized(image_files.decode(image), size)
    classes = np.zeros(size, np.uint8)
    if mask:
        height, width = size
        nearest = Image.Resampling.NEAREST
        classes = np.asarray(Image.fromarray(masks.decode(mask)).resize((width, height), nearest))
    return Batch(pixels, classes, np.asarray(bool(mask)), np.asarray(position))


def batches(
    dataset: Dataset, size: Size, batch_size: int, *, process: int = 0, processes: int = 1
) -> Iterator[Batch]:
    """Every frame of this process's share once, in order, in batches of one size.

    Process p gets the frames p, p + processes, ...; each process gets as many batches as the
    others, the last ones padded.

    Args:
        dataset: what to read.
        size: (height, width) that pictures are resized to.
        batch_size: frames a batch on this process.
        process: which of `processes` this one is.
        processes: how many read the data set between them.
    """
    shares = -(-len(dataset) // processes)
    count = -(-shares // batch_size)
    mine = range(process, len(dataset), processes)

    def read(position: int) -> Batch:
        record = dataset.record(position)
        return decode(record["image"], record["mask"], size, position)

    frames = read_ahead(read, mine, batch_size)
    black = np.zeros((*size, 3), np.uint8)
    blank = Batch(black, black[..., 0], np.asarray(False), np.asarray(-1))
    for _ in range(count):
        yield stack([next(frames, blank) for _ in range(batch_size)])


def prefetched_frames(batch_size: int) -> int:
    """How many frames are decoded ahead of the network."""
    return max(_PREFETCHED * batch_size, _MIN_PREFETCHED)


def read_ahead(read: Callable[[int], Batch], positions: range, batch_size: int) -> Iterator[Batch]:
    """What `read` gives of each position, in order, read in threads ahead of its use."""
    ahead = prefetched_frames(batch_size)
    options = grain.ReadOptions(num_threads=processors(), prefetch_buffer_size=ahead)
    numbers = grain.MapDataset.range(positions.start, positions.stop, positions.step)
    return iter(numbers.map(read).to_iter_dataset(options))


def stack(frames: list[Batch]) -> Batch:
    """Frames as a batch: a first axis more."""
    return Batch(*(np.stack(field) for field in zip(*frames, strict=True)))
