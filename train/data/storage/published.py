"""A folder of crops as a TFDS data set, packed once into ArrayRecord."""

import itertools
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from flax_unet.utils.cache import cache_root
from flax_unet.utils.files import check_space
from train.data.layouts import folder, tree
from train.data.layouts.faults import BadFileError, Fault, fault_of, unreadable
from train.data.layouts.folder import Content, Frame, Listing
from train.data.layouts.reading import AS_PUBLISHED, Reading
from train.data.processors import processors
from train.data.storage.builder import Example, FrameBuilder, Work, prepare
from train.data.storage.cache import cached, fingerprint
from train.data.storage.manifest import Index

_FORMAT = 4  # of the records; another number packs every folder again


class Published(FrameBuilder):
    """Frames of a `Listing`, in the order of their names."""

    DESCRIPTION = "Face crops in the published layout."

    def __init__(self, *, listing: Listing, mask_threshold: int | None, **options: Any) -> None:
        self._listing, self._mask_threshold = listing, mask_threshold
        # These grow while the pictures are opened.
        self.faults = dict(listing.faults)
        self.failures: dict[str, Fault] = {}  # of reading, which may work another time
        self.modes: Counter[str] = Counter()  # of the pictures
        self.emptied: list[str] = []  # the crops whose masks the threshold emptied
        super().__init__(**options)

    def work(self) -> dict[str, Work]:
        """A frame is a piece of work."""
        return {
            split: Work(self._examples(frames), [frame.size for frame in frames])
            for split, frames in self._listing.splits.items()
        }

    def _examples(self, frames: list[Frame]) -> Iterator[list[Example]]:
        contents = _read_ahead(frames, self._mask_threshold)
        for frame, future in tqdm(
            contents, total=len(frames), unit="frame", desc="Packing", disable=None
        ):
            try:
                image, mask, mode, is_emptied = future.result()
            except BadFileError as error:
                self.faults[frame.file] = error.fault
                yield []
            except (OSError, MemoryError) as error:
                self.failures[frame.file] = fault_of(error)
                yield []
            else:
                self.modes[mode] += 1
                if is_emptied:
                    self.emptied.append(frame.file)
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


def pack(path: Path, reading: Reading = AS_PUBLISHED) -> Path:
    """Packs a folder of crops unless it is packed already; files that are at fault are left out.

    Args:
        path: the folder, or one that holds it.
        reading: what its files leave open.

    Returns:
        The packed data set's directory.

    Raises:
        InputError: the folder is not in the published layout, a file could not be read just now,
            or the cache cannot be written.
    """
    path = tree.locate(path)
    files = tree.list_files(path)
    place = path.resolve()
    family = cache_root() / "data" / "published" / fingerprint([place])

    def fill(stage: Path) -> None:
        listing = folder.scan(path, files, reading)
        frames = itertools.chain.from_iterable(listing.splits.values())
        check_space(stage, sum(frame.size for frame in frames))
        builder = Published(listing=listing, mask_threshold=reading.mask_threshold, data_dir=stage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are checked
            prepare(builder)
        if builder.failures:
            raise unreadable(str(path), builder.failures, builder.faults)
        emptied = _emptied(builder.emptied, reading.mask_threshold)
        notes = [*listing.notes, *_converted(builder.modes), *emptied]
        Index(builder.rows, builder.faults, notes).write(stage)

    return cached(family, fingerprint([_FORMAT, place, files, reading]), fill)


def _converted(modes: Counter[str]) -> Iterator[str]:
    """A note on the crops that are not RGB."""
    others = Counter({mode: count for mode, count in modes.items() if mode != "RGB"})
    if others:
        counts = ", ".join(f"{count} {mode}" for mode, count in others.most_common())
        yield (
            f"{others.total()} crops are not RGB ({counts}, by their modes in PIL); they are "
            "converted as flax_unet.predict converts them"
        )


def _emptied(crops: list[str], threshold: int | None) -> Iterator[str]:
    """A note on masks of the classes 0 and 1 that were taken for grey levels."""
    if crops:
        yield (
            f"{len(crops)} masks hold only the levels 0 and 1 and are empty at --mask-threshold "
            f"{threshold}, such as that of {crops[0]}; if 1 means MANIPULATED there, leave the "
            "option out"
        )


def _read_ahead(
    frames: list[Frame], mask_threshold: int | None
) -> Iterator[tuple[Frame, Future[Content]]]:
    """Reads and checks frames in threads, ahead of their use, in order."""
    workers = processors()
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Frame, Future[Content]]] = deque()
        remaining = iter(frames)
        for frame in itertools.islice(remaining, 4 * workers):  # bounds what is held in memory
            waiting.append((frame, pool.submit(folder.read_frame, frame, mask_threshold)))
        while waiting:
            yield waiting.popleft()
            for following in itertools.islice(remaining, 1):
                future = pool.submit(folder.read_frame, following, mask_threshold)
                waiting.append((following, future))
