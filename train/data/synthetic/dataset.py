"""The embedded data set: portraits, and forgeries made from them.

Importing this module imports TensorFlow Datasets, not TensorFlow.
"""

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
from train.data.processors import processors
from train.data.splits import PARTS, by_source
from train.data.storage import builder
from train.data.storage.builder import Example, FrameBuilder, Work
from train.data.storage.cache import cached, fingerprint
from train.data.storage.manifest import Index
from train.data.synthetic.pairs import SIZE, check, make_pairs
from train.data.synthetic.portraits import MIN_COUNT, Portraits, portraits

SHARES = (80, 10, 10)  # per cent of the portraits in each of PARTS

_PAIR_BYTES = 2 * 3 * SIZE**2  # of two pictures uncompressed: noise gets little smaller
_BATCH = 16  # portraits that a process works on at a time
_ENOUGH = 64  # portraits that are worth the start of another process
_MAX_PROCESSES = 8  # each holds the memory of its own imports
# What the records' bytes depend on, beside this folder's modules.
_MODULES = ("splits", "layouts/image_files", "storage/builder", "storage/manifest")
_PACKAGES = ("numpy", "pillow", "scipy", "tensorflow-datasets")

Mapping = Callable[..., Iterator[Any]]  # a function to each of a list: as `map`, in order


class ForgedPortraits(FrameBuilder):
    """Of each portrait a real picture and a forged one, both in the same split."""

    DESCRIPTION = "Portraits, and forgeries made from them by blending in a changed face."

    def __init__(
        self,
        *,
        sources: Portraits | None = None,
        seed: int = 0,
        without: Collection[str] = (),
        mapping: Mapping = map,
        **options: Any,
    ) -> None:
        """Prepares to generate.

        Args:
            sources: portraits; None for the generated ones.
            seed: of the splits and forgeries.
            without: files of portraits to leave out; at least ten are left.
            mapping: applies a function to each batch, in order; an executor's `map` spreads the
                work, and the result is the same.
            **options: of every TFDS builder, such as `data_dir`.
        """
        self._sources = sources or portraits("procedural", count=None, seed=seed, cache=None)
        self._seed = seed
        self._without = without
        self._mapping = mapping
        self.faults: dict[str, Fault] = {}  # portraits that cannot be forged, with the reason
        super().__init__(**options)

    def work(self) -> dict[str, Work]:
        """A batch of portraits is a piece of work."""
        numbers = range(len(self._sources))
        usable = np.array([i for i in numbers if self._sources.file(i) not in self._without])
        parts = by_source([str(i) for i in usable], [""] * len(usable), SHARES, self._seed)
        batches = {part: _batches(usable[parts[part]].tolist()) for part in PARTS}
        return {
            part: Work(self._pairs(part, found), [len(batch) * _PAIR_BYTES for batch in found])
            for part, found in batches.items()
        }

    def _pairs(self, part: str, batches: list[Sequence[int]]) -> Iterator[list[Example]]:
        make = functools.partial(make_pairs, self._sources, self._seed)
        total = 2 * sum(map(len, batches))
        with tqdm(total=total, unit="frame", desc=f"Making {part}", disable=None) as bar:
            for examples, faults in self._mapping(make, batches):
                self.faults |= faults
                yield examples
                bar.update(len(examples))


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
        skip_bad: whether to generate without portraits that cannot be used; the index of what is
            generated names them.

    Returns:
        The directory that holds the data set, named for a fingerprint of all that it depends on.

    Raises:
        InputError: the source cannot be used; the message lists all portraits that are at fault.
    """
    cache = cache or cache_root()
    sources = portraits(source, count=count, seed=seed, cache=cache)
    place = Path(source).resolve() if Path(source).is_dir() else source
    family = cache / "data" / "forged_portraits" / fingerprint([place, count, seed])
    fill = functools.partial(_generate, source, sources, seed, skip_bad)
    return cached(family, fingerprint([*_made_with(), seed, *sources.describe()]), fill)


def _generate(source: str, sources: Portraits, seed: int, skip_bad: bool, directory: Path) -> None:
    """Generates into `directory`, in as many processes as there is work and processors for."""
    check_space(directory, len(sources) * _PAIR_BYTES)
    with _mapping(len(sources)) as mapping:
        faults = _check(source, sources, mapping)
        if faults and not skip_bad:
            raise unusable(source, faults)
        if (left := len(sources) - len(faults)) < MIN_COUNT:
            raise InputError(
                f"{source} has {left} portraits that can be used; at least {MIN_COUNT} are needed"
            )
        made = ForgedPortraits(
            sources=sources, seed=seed, without=faults, mapping=mapping, data_dir=directory
        )
        builder.prepare(made)
    faults |= made.faults
    if faults and not skip_bad:
        raise unusable(source, faults)
    Index(made.rows, faults, []).write(directory)


def _check(source: str, sources: Portraits, mapping: Mapping) -> dict[str, Fault]:
    """Portraits that cannot be used, with the reason."""
    faults: dict[str, Fault] = {}
    failures: dict[str, Fault] = {}
    batches = _batches(range(len(sources)))
    for checked in mapping(functools.partial(check, sources), batches):
        faults |= checked.faults
        failures |= checked.failures
    if failures:
        raise unreadable(source, failures, faults)
    return faults


def _batches(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH)]


@contextlib.contextmanager
def _mapping(count: int) -> Iterator[Mapping]:
    """A `map` that spreads the work on `count` portraits over processes, if it is worth it."""
    workers = min(processors(), count // _ENOUGH, _MAX_PROCESSES)
    if workers < 2:
        yield map
        return
    # Started anew: a copy of a process in which JAX has threads may hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _made_with() -> list[str]:
    """Hashes of the code, and the versions, that decide the records' bytes."""
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py")), *(here.parent / f"{name}.py" for name in _MODULES)]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    return [*map(file_sha256, files), *versions]
