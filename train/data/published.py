"""A folder in the published layout as a TFDS data set, packed once into ArrayRecord.

TensorFlow is never imported: pictures are stored as the bytes that they have on disk.
"""

import itertools
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from flax_unet.errors import InputError
from flax_unet.files import check_space
from train.data import folder
from train.data.build import prepare
from train.data.cache import cache_root, cached, describe_files, fingerprint
from train.data.folder import Frame, Listing

_FORMAT = 1  # of the records; another number packs every folder again
_FAULTS = "faults.json"

FEATURES = tfds.features.FeaturesDict(
    {
        "file": tfds.features.Text(doc="relative to the data set's folder"),
        "video": tfds.features.Text(doc="frames of one video are never in two splits"),
        "original": tfds.features.Text(doc="of a fake: the video it was made from, if known"),
        "image": tfds.features.Image(shape=(None, None, 3), doc="the bytes of a picture file"),
        "mask": tfds.features.Text(doc="the bytes of a picture file, empty without a mask"),
        "label": tfds.features.Scalar(np.int64, doc="1 = REAL, 0 = FAKE"),
    }
)


class Published(tfds.core.GeneratorBasedBuilder):
    """Frames of a `Listing`, in the order of their names."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, listing: Listing, data_dir: Path) -> None:
        self._listing = listing
        self.faults = dict(listing.faults)  # grows while the pictures are opened
        super().__init__(data_dir=os.fspath(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Face crops in the published layout.",
            features=FEATURES,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: object) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(f) for split, f in self._listing.splits.items()}

    def _generate_examples(self, frames: list[Frame]) -> Iterator[tuple[int, dict[str, object]]]:
        contents = _read_ahead(frames)
        progress = tqdm(contents, total=len(frames), unit="frame", desc="Packing", disable=None)
        for number, (frame, content) in enumerate(progress):
            if isinstance(content, str):
                self.faults[frame.file] = content
                continue
            yield (
                number,
                {
                    "file": frame.file,
                    "video": frame.video,
                    "original": frame.original,
                    "image": content[0],
                    "mask": content[1],
                    "label": frame.label,
                },
            )


def pack(path: Path) -> tuple[Path, dict[str, str], list[str]]:
    """Packs the folder `path` unless it is packed already.

    Returns:
        The packed data set's directory, the faulty files with their reasons, and notes.

    Raises:
        InputError: the folder is not in the published layout, or the cache cannot be written.
    """
    files = folder.list_files(path)
    key = fingerprint([_FORMAT, path.resolve(), *describe_files(files, path)])
    directory = cache_root() / "data" / "published" / key

    def fill(stage: Path) -> None:
        check_space(stage, sum(file.stat().st_size for file in files))
        listing = folder.scan(path)
        faults = listing.faults
        if any(listing.splits.values()):
            builder = Published(listing=listing, data_dir=stage)
            prepare(builder)
            faults = builder.faults
        report = {"faults": faults, "notes": listing.notes}
        (stage / _FAULTS).write_text(json.dumps(report), encoding="utf-8")

    cached(directory, fill)
    report = json.loads((directory / _FAULTS).read_text(encoding="utf-8"))
    return directory, report["faults"], report["notes"]


def _read_ahead(frames: list[Frame]) -> Iterator[tuple[Frame, tuple[bytes, bytes] | str]]:
    """Reads and checks frames in threads, in order: the bytes of each, or why there are none."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Frame, Future]] = deque()
        remaining = iter(frames)
        for frame in itertools.islice(remaining, 4 * workers):  # bounds what is held in memory
            waiting.append((frame, pool.submit(_read, frame)))
        while waiting:
            frame, future = waiting.popleft()
            for following in itertools.islice(remaining, 1):
                waiting.append((following, pool.submit(_read, following)))
            yield frame, future.result()


def _read(frame: Frame) -> tuple[bytes, bytes] | str:
    try:
        return folder.read_frame(frame)
    except (InputError, OSError) as error:
        return str(error)
