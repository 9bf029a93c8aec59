"""The embedded data set: portraits, and forgeries made from them.

Importing this module imports TensorFlow Datasets, not TensorFlow.
"""

import functools
import importlib.metadata
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from flax_unet.errors import InputError
from flax_unet.files import staged_directory
from flax_unet.provenance import file_sha256
from train.data import build
from train.data.cache import cache_root, fingerprint
from train.data.pairs import make_pairs
from train.data.portraits import Portraits, portraits
from train.data.published import FEATURES
from train.data.splits import PARTS, by_source

SHARES = (80, 10, 10)  # per cent of the portraits in each of PARTS

_BATCH = 16  # portraits that a process works on at a time
_ENOUGH = 64  # portraits that are worth the start of another process
_MAX_PROCESSES = 8  # each holds the memory of its own imports
# What the pictures' bytes depend on.
_CODE = ("raster", "canvas", "face*", "procedural", "forge", "pairs", "*portraits", "splits")
_PACKAGES = ("numpy", "pillow", "scipy", "tensorflow-datasets")


class ForgedPortraits(tfds.core.GeneratorBasedBuilder):
    """Of each portrait a real picture and a forged one, both in the same split."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        sources: Portraits | None = None,
        seed: int = 0,
        mapping: Callable[..., Iterator[Any]] = map,
        **options: Any,
    ) -> None:
        """Prepares to generate.

        Args:
            sources: at least ten portraits; None for the generated ones.
            seed: of the splits and forgeries.
            mapping: applies a function to each batch, in order; an executor's `map` spreads the
                work, and the result is the same.
            **options: of every TFDS builder, such as `data_dir`.
        """
        self._sources = sources or portraits("procedural", count=None, seed=seed, cache=None)
        self._seed = seed
        self._mapping = mapping
        self.faults: list[str] = []  # portraits that cannot be used, with the reason
        super().__init__(file_format="array_record", **options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Portraits, and forgeries made from them by blending in a changed face.",
            features=FEATURES,
        )

    def _split_generators(self, dl_manager: object) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        names = [str(i) for i in range(len(self._sources))]
        parts = by_source(names, [""] * len(names), SHARES, self._seed)
        return {part: self._generate_examples(part, parts[part].tolist()) for part in PARTS}

    def _generate_examples(
        self, part: str, split: list[int]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        batches = [split[start : start + _BATCH] for start in range(0, len(split), _BATCH)]
        make = functools.partial(make_pairs, self._sources, self._seed)
        with tqdm(total=2 * len(split), unit="frame", desc=f"Making {part}", disable=None) as bar:
            for examples, faults in self._mapping(make, batches):
                self.faults += faults
                for example in examples:
                    yield example["file"], example
                bar.update(len(examples))


def prepare(
    source: str = "procedural",
    *,
    count: int | None = None,
    seed: int = 0,
    cache: Path | None = None,
) -> Path:
    """Generates the data set in the cache, unless it is there already.

    It starts processes, so a script that calls this needs the usual `if __name__ == "__main__"`.

    Args:
        source: `procedural`, `avatars`, or a folder with aligned face pictures.
        count: of generated portraits, None for the default.
        seed: of the generated portraits, the forgeries and the splits.
        cache: the folder of the cache, None for the user's.

    Returns:
        The directory that holds the data set, named for a fingerprint of all that it depends on.

    Raises:
        InputError: the source cannot be used; the message lists all portraits that are at fault.
    """
    cache = cache or cache_root()
    sources = portraits(source, count=count, seed=seed, cache=cache)
    key = fingerprint([*_made_with(), seed, *sources.describe()])
    directory = cache / "data" / "forged_portraits" / key
    if not directory.exists():
        with staged_directory(directory) as stage:
            _generate(sources, seed, stage)
    return directory


def _generate(sources: Portraits, seed: int, directory: Path) -> None:
    """Generates into `directory`, in as many processes as there is work and processors for."""
    make = functools.partial(ForgedPortraits, sources=sources, seed=seed, data_dir=directory)
    workers = min(os.cpu_count() or 1, len(sources) // _ENOUGH, _MAX_PROCESSES)
    if workers < 2:
        return _finish(make())
    # Started anew: a copy of a process in which JAX has threads may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return _finish(make(mapping=pool.map))


def _finish(builder: ForgedPortraits) -> None:
    try:
        build.prepare(builder)
    finally:  # with a split that has no usable portrait the builder has failed by now
        if builder.faults:
            listed = "\n  ".join(sorted(builder.faults))
            raise InputError(f"portraits that cannot be used, remove them:\n  {listed}")


def _made_with() -> list[str]:
    """Hashes of the code, and the versions, that decide the pictures' bytes."""
    here = Path(__file__).parent
    files = sorted(path for name in _CODE for path in here.glob(f"{name}.py"))
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    return [*map(file_sha256, files), *versions]
