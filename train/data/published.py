"""A folder in the published layout as a TFDS data set, packed once into ArrayRecord."""

import itertools
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from flax_unet.cache import cache_root
from flax_unet.errors import InputError
from flax_unet.files import check_space
from train.data import folder
from train.data.build import Example, FrameBuilder, Work, prepare
from train.data.cache import cached, fingerprint
from train.data.faults import unreadable
from train.data.folder import Frame, Listing
from train.data.index import Index
from train.data.processors import processors

_FORMAT = 2  # of the records; another number packs every folder again


class Published(FrameBuilder):
    """Frames of a `Listing`, in the order of their names."""

    DESCRIPTION = "Face crops in the published layout."

    def __init__(self, *, listing: Listing, **options: Any) -> None:
        self._listing = listing
        # Both grow while the pictures are opened.
        self.faults = dict(listing.faults)
        self.failures: dict[str, str] = {}  # of reading, which may work another time
        super().__init__(**options)

    def work(self) -> dict[str, Work]:
        """A frame is a piece of work."""
        return {
            split: Work(self._examples(frames), [frame.size for frame in frames])
            for split, frames in self._listing.splits.items()
        }

    def _examples(self, frames: list[Frame]) -> Iterator[list[Example]]:
        contents = _read_ahead(frames)
        for frame, future in tqdm(
            contents, total=len(frames), unit="frame", desc="Packing", disable=None
        ):
            try:
                image, mask = future.result()
            except InputError as error:
                self.faults[frame.file] = str(error)
                yield []
            except (OSError, MemoryError) as error:
                self.failures[frame.file] = str(error) or type(error).__name__
                yield []
            else:
                yield [
                    {
                        "file": frame.file,
                        "video": frame.video,
                        "original": frame.original,
                        "image": image,
                        "mask": mask,
                        "label": frame.label,
                    }
                ]


def pack(path: Path) -> Path:
    """Packs the folder `path` unless it is packed already; files that are at fault are left out.

    Returns:
        The packed data set's directory.

    Raises:
        InputError: the folder is not in the published layout, a file could not be read just now,
            or the cache cannot be written.
    """
    files = folder.list_files(path)
    place = path.resolve()
    family = cache_root() / "data" / "published" / fingerprint([place])

    def fill(stage: Path) -> None:
        listing = folder.scan(path, files)
        frames = itertools.chain.from_iterable(listing.splits.values())
        check_space(stage, sum(frame.size for frame in frames))
        builder = Published(listing=listing, data_dir=stage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are checked
            prepare(builder)
        if builder.failures:
            raise unreadable(str(path), builder.failures, builder.faults)
        Index(builder.rows, builder.faults, listing.notes).write(stage)

    return cached(family, fingerprint([_FORMAT, place, files]), fill)


def _read_ahead(frames: list[Frame]) -> Iterator[tuple[Frame, Future[tuple[bytes, bytes]]]]:
    """Reads and checks frames in threads, ahead of their use, in order."""
    workers = processors()
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Frame, Future[tuple[bytes, bytes]]]] = deque()
        remaining = iter(frames)
        for frame in itertools.islice(remaining, 4 * workers):  # bounds what is held in memory
            waiting.append((frame, pool.submit(folder.read_frame, frame)))
        while waiting:
            yield waiting.popleft()
            for following in itertools.islice(remaining, 1):
                waiting.append((following, pool.submit(folder.read_frame, following)))
