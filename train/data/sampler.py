"""The order of training pictures: endless, shuffled in each epoch, and resumable at any step."""

import functools
from collections.abc import Iterator

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
        self._order = functools.lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset))

    def row(self, sample: int) -> tuple[int, int]:
        """The epoch of a sample, from 0, and its row of the data set's table."""
        epoch, position = divmod(sample, self.samples(self.steps_per_epoch))
        return epoch, int(self._order(epoch)[position])

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
    ) -> Iterator[Batch]:
        """This process's share of the batches `first` to `last` - 1, counted from 0.

        Process p gets the p-th part of each batch; `processes` must divide the batch size. Pictures
        are resized to (height, width), then augmented.
        """
        is_augmented = any(vars(augmentation).values())

        def read(number: int) -> Batch:
            """The picture of a number in the order of this process; all have equal shares."""
            epoch, position = divmod(number, self.samples(self.steps_per_epoch) // processes)
            step = position // (self.batch_size // processes) + epoch * self.steps_per_epoch
            before = self.samples(step)
            position = number - before // processes
            epoch, row = self.row(before + process * (self.size(step) // processes) + position)
            frame = load_frame(self.dataset, row, size)
            if is_augmented:
                rng = np.random.default_rng((self.seed, epoch, row))
                image, mask = augment(frame.image, frame.mask, augmentation, rng)
                frame = frame._replace(image=image, mask=mask)
            return frame

        numbers = range(self.samples(first) // processes, self.samples(last) // processes)
        frames = prefetch(read, numbers, ahead=frames_ahead(self.batch_size // processes))
        for step in range(first, last):
            yield stack([next(frames) for _ in range(self.size(step) // processes)])
