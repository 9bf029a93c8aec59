"""Writes records into ArrayRecord files, as a TFDS data set.

TensorFlow is never imported, since pictures are stored as the bytes of their files.
"""

import contextlib
import functools
import io
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core import writer

from flax_unet.utils.errors import InputError
from train.data.storage.manifest import Record, Recorder

FEATURES = tfds.features.FeaturesDict(
    {
        "file": tfds.features.Text(doc="relative to the data set's folder"),
        "video": tfds.features.Text(doc="frames of one video are never in two splits"),
        "original": tfds.features.Text(doc="of a fake: the videos it was made from, one a line"),
        "image": tfds.features.Image(shape=(None, None, 3), doc="the bytes of a picture file"),
        "mask": tfds.features.Text(doc="the bytes of a picture file, empty without a mask"),
        "label": tfds.features.Scalar(np.int64, doc="1 = REAL, 0 = FAKE"),
    }
)
SHARD_BYTES = 128 * 1024**2  # TFDS holds the records of a shard in memory until it is written


class Work(NamedTuple):
    """How a split is made: piece by piece, in order."""

    results: Iterator[Sequence[Record]]  # of each piece, made when it is asked for
    sizes: Sequence[int]  # bytes of each piece, roughly


class _Builder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """A TFDS builder whose splits come from `Work`."""

    name = "frames"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, directory: Path, work: Mapping[str, Work]) -> None:
        self._work = work
        self.recorders = {split: Recorder() for split in work}
        super().__init__(data_dir=directory, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Pictures of faces with labels and masks.",
            features=FEATURES,
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager: object) -> dict[str, list]:
        del dl_manager  # nothing is downloaded
        shards: dict[str, list] = {}
        for split, (results, sizes) in self._work.items():
            starts = itertools.accumulate(sizes[:-1], initial=0)
            pieces = Counter(start // SHARD_BYTES for start in starts) if sizes else {}
            shards[split] = [
                functools.partial(_shard, self.recorders[split], results, count)
                for count in pieces.values()
            ]
        return {split: found for split, found in shards.items() if found}

    def _example_writer(self) -> writer.ExampleWriter:
        return _Uncompressed(tfds.core.FileFormat.ARRAY_RECORD)


def _shard(
    recorder: Recorder, results: Iterator[Sequence[Record]], count: int
) -> Iterator[tuple[str, Record]]:
    """The records of the next `count` pieces of work."""
    for record in itertools.chain.from_iterable(itertools.islice(results, count)):
        recorder.add(record)
        yield record["file"], record


class _Uncompressed(writer.ExampleWriter):
    """Stores records without compression, since pictures are compressed already."""

    def write(self, path: str | os.PathLike, examples: Iterable[tuple[Any, bytes]]) -> None:
        """Writes the records of a shard."""
        file = ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
        for _, example in examples:
            _written(path, file.write, example)
        _written(path, file.close)


def _written(path: str | os.PathLike, action: Callable[..., None], *content: bytes) -> None:
    try:
        action(*content)
    except RuntimeError as error:  # ArrayRecord raises it where the system refuses to write
        raise InputError(
            f"{path} cannot be written: {error}. Make room in the cache, or name another folder "
            "for it by XDG_CACHE_HOME"
        ) from error


def write_records(directory: Path, work: Mapping[str, Work]) -> dict[str, Recorder]:
    """Writes a data set into `directory`, without TFDS's messages.

    Returns:
        What was written, by split.

    Raises:
        InputError: it cannot be written.
    """
    builder = _Builder(directory, work)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except OSError as error:
        raise InputError(f"{builder.data_dir} cannot be made: {error}") from error
    return builder.recorders
