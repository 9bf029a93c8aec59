"""Generates the embedded data set: portraits, and forgeries made from them."""

import contextlib
import functools
import importlib.metadata
import multiprocessing
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flax_unet.checkpoint.provenance import file_sha256
from flax_unet.utils.cache import cache_root
from flax_unet.utils.errors import InputError
from flax_unet.utils.files import check_space
from train.data.layouts.faults import Fault, unreadable, unusable
from train.data.prefetch import processors
from train.data.splits import PARTS, by_source
from train.data.storage.builder import Work, write_records
from train.data.storage.cache import cached, fingerprint
from train.data.storage.manifest import Manifest, Record, Recorder
from train.data.synthetic.pairs import SIZE, check, make_pairs
from train.data.synthetic.portraits import MIN_COUNT, FolderPortraits, Portraits, portraits

SHARES = (80, 10, 10)  # per cent of the portraits in each of PARTS

_PAIR_BYTES = 2 * 3 * SIZE**2  # of two uncompressed pictures: noise compresses little
_BATCH = 16  # portraits that a process works on at a time
_ENOUGH = 64  # portraits that are worth the start of another process
_MAX_PROCESSES = 8  # each holds the memory of its own imports
# What decides the bytes of the records, beside the modules of this folder.
_FILES = (
    *("train/data/splits.py", "train/data/layouts/faults.py", "train/data/layouts/image_files.py"),
    *("train/data/storage/builder.py", "train/data/storage/manifest.py"),
    *("flax_unet/media/images.py", "flax_unet/utils/filenames.py"),
)
_PACKAGES = ("numpy", "pillow", "scipy", "tensorflow-datasets", "array-record")

Mapping = Callable[..., Iterator[Any]]  # `map`, or one that spreads the work over processes


def prepare(
    source: str = "procedural",
    *,
    count: int | None = None,
    seed: int = 0,
    cache: Path | None = None,
    skip_bad: bool = False,
) -> Path:
    """Generates the data set in the cache, unless it is there already.

    It starts processes, so a script that calls this needs the usual `if __name__ == "__main__"`.

    Args:
        source: `procedural`, `avatars`, or a folder with aligned face pictures.
        count: of generated portraits, None for the default.
        seed: of the generated portraits, the forgeries and the splits.
        cache: the folder of the cache, None for the user's.
        skip_bad: whether to leave out portraits that cannot be used; the manifest lists them.

    Returns:
        The directory of the data set, named by a fingerprint of everything that it depends on.

    Raises:
        InputError: the source cannot be used; the message lists all portraits that have faults.
    """
    cache = cache or cache_root()
    sources = portraits(source, count=count, seed=seed, cache=cache)
    origin = Path(source).resolve() if Path(source).is_dir() else source
    family = cache / "data" / "forged_portraits" / fingerprint([origin, count, seed])
    fill = functools.partial(_generate, source, sources, seed, skip_bad)
    return cached(family, fingerprint([*_made_with(), seed, *sources.describe()]), fill)


def _generate(source: str, sources: Portraits, seed: int, skip_bad: bool, directory: Path) -> None:
    """Generates into `directory`, in as many processes as the work and the machine allow."""
    check_space(directory, len(sources) * _PAIR_BYTES)
    with _mapping(len(sources)) as mapping:
        faults, failures = {}, {}
        # Generated portraits have no faults.
        checked = range(len(sources)) if isinstance(sources, FolderPortraits) else ()
        for faulty, failed in mapping(functools.partial(check, sources), _batches(checked)):
            faults |= faulty
            failures |= failed
        if failures:
            raise unreadable(source, failures, faults)
        if faults and not skip_bad:
            raise unusable(source, faults)
        if (left := len(sources) - len(faults)) < MIN_COUNT:
            raise InputError(
                f"{source} has {left} portraits that can be used; at least {MIN_COUNT} are needed"
            )
        recorders, unforged = write_pairs(directory, sources, seed, without=faults, mapping=mapping)
    faults |= unforged
    if faults and not skip_bad:
        raise unusable(source, faults)
    Manifest.of(recorders, faults, []).write(directory)


def write_pairs(
    directory: Path,
    sources: Portraits,
    seed: int,
    *,
    without: Collection[str] = (),
    mapping: Mapping = map,
) -> tuple[dict[str, Recorder], dict[str, Fault]]:
    """Writes a real picture and a forged one of each portrait, both in the same split.

    `without` are files of portraits to leave out; `mapping` applies a function to each batch.

    Returns:
        What was written, by split, and the portraits that cannot be forged.
    """
    faults: dict[str, Fault] = {}

    def records(part: str, batches: list[Sequence[int]]) -> Iterator[list[Record]]:
        make = functools.partial(make_pairs, sources, seed)
        total = 2 * sum(map(len, batches))
        with tqdm(total=total, unit="frame", desc=f"Making {part}", disable=None) as bar:
            for made, faulty in mapping(make, batches):
                faults.update(faulty)
                yield made
                bar.update(len(made))

    usable = np.array([i for i in range(len(sources)) if sources.file(i) not in without])
    parts = by_source(map(str, usable), [""] * len(usable), SHARES, seed)
    batches = {part: _batches(usable[parts[part]].tolist()) for part in PARTS}
    work = {
        part: Work(records(part, found), [len(batch) * _PAIR_BYTES for batch in found])
        for part, found in batches.items()
    }
    return write_records(directory, work), faults


def _batches(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH)]


@contextlib.contextmanager
def _mapping(count: int) -> Iterator[Mapping]:
    """A `map` that spreads the work on `count` portraits over processes, if that is faster."""
    workers = min(processors(), count // _ENOUGH, _MAX_PROCESSES)
    if workers < 2:
        yield map
        return
    # Spawned: a fork of a process in which JAX has threads may hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _made_with() -> list[str]:
    """Hashes of the code, and the versions, that decide the records' bytes.

    Raises:
        FileNotFoundError: one of the files does not exist.
    """
    root = Path(__file__).parents[3]
    files = [*sorted(Path(__file__).parent.glob("*.py")), *(root / name for name in _FILES)]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    return [*map(file_sha256, files), *versions]
