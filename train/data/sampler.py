"""The order of training pictures: endless, shuffled in each epoch, and resumable at any step."""

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Generator

import numpy as np

from flax_unet.nn.config import Size
from train.data.augment import Augmentation, augment
from train.data.dataset import Dataset
from train.data.loader import Batch, frames_ahead, load_frame, stack
from train.data.prefetch import prefetch


class Sampler:
    """Draws pictures in epochs of batches.

    Sample i is the same however many devices and processes share the work.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, seed: int, *, keep_last_batch: bool = False
    ) -> None:
        """Sets the order up; nothing is read yet.

        With `keep_last_batch`, an epoch ends with a smaller batch of the pictures that are left
        over; otherwise it leaves them out. `batch_size` counts all devices of all processes.
        """
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        whole, rest = divmod(len(dataset), batch_size)
        self.last_batch_size = rest if keep_last_batch and rest else batch_size
        self.steps_per_epoch = whole + (self.last_batch_size < batch_size)

    def row(self, sample: int) -> tuple[int, int]:
        """The epoch of a sample, from 0, and its row of the data set's table."""
        epoch, position = divmod(sample, self.samples(self.steps_per_epoch))
        return epoch, int(_order(len(self.dataset), self.seed, epoch)[position])

    def size(self, step: int) -> int:
        """Pictures of a step, from 0."""
        is_last = (step + 1) % self.steps_per_epoch == 0
        return self.last_batch_size if is_last else self.batch_size

    def samples(self, steps: int) -> int:
        """Pictures of the first `steps` steps."""
        fewer = self.batch_size - self.last_batch_size
        return steps * self.batch_size - steps // self.steps_per_epoch * fewer

    def batches(
        self,
        size: Size,
        augmentation: Augmentation,
        *,
        first: int,
        last: int,
        process: int = 0,
        processes: int = 1,
        workers: int = 0,
    ) -> Generator[Batch]:
        """This process's share of the batches `first` to `last` - 1, counted from 0.

        Process p gets the p-th part of each batch; `processes` must divide the batch size. Pictures
        are resized to (height, width), then augmented. `workers` are as for `prefetch`.
        """
        read = self.reader(size, augmentation, process=process, processes=processes)
        numbers = range(self.samples(first) // processes, self.samples(last) // processes)
        ahead = frames_ahead(self.batch_size // processes)
        with contextlib.closing(prefetch(read, numbers, ahead, workers)) as frames:
            for step in range(first, last):
                yield stack([next(frames) for _ in range(self.size(step) // processes)])

    def reader(
        self, size: Size, augmentation: Augmentation, *, process: int = 0, processes: int = 1
    ) -> "Reader":
        """What reads the pictures of `batches`."""
        sampler = copy.copy(self)
        sampler.dataset = self.dataset.pictures()
        return Reader(sampler, size, augmentation, process, processes)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads the pictures of a process by their number in its order; pickled for other processes."""

    sampler: Sampler
    size: Size
    augmentation: Augmentation
    process: int
    processes: int

    def __call__(self, number: int) -> Batch:
        """The picture of a number, without a batch axis; all processes have equal shares."""
        sampler, processes = self.sampler, self.processes
        epoch, position = divmod(number, sampler.samples(sampler.steps_per_epoch) // processes)
        step = position // (sampler.batch_size // processes) + epoch * sampler.steps_per_epoch
        before = sampler.samples(step)
        position = number - before // processes
        epoch, row = sampler.row(
            before + self.process * (sampler.size(step) // processes) + position
        )
        frame = load_frame(sampler.dataset, row, self.size)
        if any(vars(self.augmentation).values()):
            rng = np.random.default_rng((sampler.seed, epoch, row))
            image, mask = augment(frame.image, frame.mask, self.augmentation, rng)
            frame = frame._replace(image=image, mask=mask)
        return frame


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The rows of a data set of `count` frames as an epoch shows them."""
    return np.random.default_rng((seed, epoch)).permutation(count)
