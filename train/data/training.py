"""The endless, shuffled stream of training pictures; any place of it can be started from."""

import functools
from collections.abc import Iterator

import numpy as np

from flax_unet.config import Size
from train.config import Augmentation
from train.data.augment import augment
from train.data.dataset import Dataset
from train.data.pipeline import Batch, decode, read_ahead, stack


class Stream:
    """Which picture comes when. Epochs are whole batches; what is left over is not seen in one.

    Sample i of the stream is the same whatever devices and processes share the work.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int) -> None:
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.steps_per_epoch = len(dataset) // batch_size
        self._order = functools.lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset))

    def row(self, sample: int) -> tuple[int, int]:
        """The epoch of a sample, from 0, and its row of the data set's table."""
        epoch, place = divmod(sample, self.steps_per_epoch * self.batch_size)
        return epoch, int(self._order(epoch)[place])

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
        """This process's share of the batches `first` to `last` - 1.

        Process p gets the p-th part of each batch.

        Args:
            size: (height, width) that pictures are resized to.
            augmentation: what is changed in them.
            first: of the batches, from 0: that of the first step is 0.
            last: the end.
            process: which of `processes` this one is.
            processes: how many share each batch; they divide it.
        """
        share = self.batch_size // processes
        augmented = any(vars(augmentation).values())

        def read(number: int) -> Batch:
            batch, place = divmod(number, share)
            epoch, row = self.row(batch * self.batch_size + process * share + place)
            record = self.dataset.record(row)
            frame = decode(record["image"], record["mask"], size, row)
            if augmented:
                rng = np.random.default_rng((self.seed, epoch, row))
                image, mask = augment(frame.image, frame.mask, augmentation, rng)
                frame = frame._replace(image=image, mask=mask)
            return frame

        frames = read_ahead(read, range(first * share, last * share), share)
        for _ in range(first, last):
            yield stack([next(frames) for _ in range(share)])
