"""Packs a folder of crops into ArrayRecord, as a TFDS data set."""

import dataclasses
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from flax_unet.utils.cache import cache_root
from flax_unet.utils.files import check_space
from flax_unet.utils.processes import processors
from train.data.layouts import folder, tree
from train.data.layouts.faults import BadFileError, Fault, fault_of, unreadable
from train.data.layouts.folder import Content, Crop
from train.data.layouts.options import AS_PUBLISHED, FolderOptions
from train.data.prefetch import prefetch
from train.data.storage.builder import Work, write_records
from train.data.storage.cache import cached, fingerprint
from train.data.storage.manifest import Manifest, Record

_FORMAT = 8  # of the records and the manifest; another number packs every folder again


@dataclasses.dataclass(frozen=True)
class _Packer:
    """Reads crops; what it finds grows while it reads."""

    mask_threshold: int | None
    faults: dict[str, Fault]
    failures: dict[str, Fault] = dataclasses.field(default_factory=dict)  # of reading
    modes: Counter[str] = dataclasses.field(default_factory=Counter)  # of the pictures
    emptied: list[str] = dataclasses.field(default_factory=list)  # crops with emptied masks

    def records(self, crops: list[Crop]) -> Iterator[list[Record]]:
        """The record of each crop in a list, which is empty if the crop cannot be used."""

        def read(position: int) -> Content | Exception:
            try:
                return folder.read_crop(crops[position], self.mask_threshold)
            except (BadFileError, OSError, MemoryError) as error:
                return error

        contents = prefetch(read, range(len(crops)), ahead=4 * processors())
        progress = tqdm(crops, unit="frame", desc="Packing", disable=None)
        for crop, found in zip(progress, contents, strict=True):
            if isinstance(found, Exception):
                is_fault = isinstance(found, BadFileError)
                (self.faults if is_fault else self.failures)[crop.file] = fault_of(found)
                yield []
                continue
            self.modes[found.mode] += 1
            if found.mask_is_emptied:
                self.emptied.append(crop.file)
            named = {"file": crop.file, "video": crop.video, "original": crop.original}
            yield [Record(**named, image=found.image, mask=found.mask, label=crop.label)]

    def notes(self) -> Iterator[str]:
        """Notes on the pictures that were read."""
        others = Counter({mode: count for mode, count in self.modes.items() if mode != "RGB"})
        if others:
            counts = ", ".join(f"{count} {mode}" for mode, count in others.most_common())
            yield (
                f"{others.total()} crops are not RGB ({counts}, by their modes in PIL); they are "
                "converted as flax_unet.predict converts them"
            )
        if self.emptied:
            yield (
                f"{len(self.emptied)} masks hold only the levels 0 and 1 and are empty at "
                f"--mask-threshold {self.mask_threshold}, such as that of {self.emptied[0]}; if 1 "
                "means MANIPULATED there, leave the option out"
            )


def pack(path: Path, options: FolderOptions = AS_PUBLISHED) -> Path:
    """Packs a folder of crops unless it is packed already; returns the directory in the cache.

    Files that have faults are left out. `path` is the folder or its parent.

    Raises:
        InputError: the folder is not in the published layout, a file could not be read just now,
            or the cache cannot be written.
    """
    path = tree.locate(path)
    parts, others = tree.list_files(path), tree.not_read(path)
    source = path.resolve()
    family = cache_root() / "data" / "published" / fingerprint([source])

    def fill(stage: Path) -> None:
        splits, faults, notes = folder.scan(path, parts, options)
        packer = _Packer(options.mask_threshold, faults)
        work = {
            split: Work(packer.records(crops), [crop.size for crop in crops])
            for split, crops in splits.items()
        }
        check_space(stage, sum(sum(sizes) for _, sizes in work.values()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are checked
            recorders = write_records(stage, work)
        if packer.failures:
            raise unreadable(str(path), packer.failures, packer.faults)
        traits = {
            split: {crop.video: crop.traits for crop in crops if crop.traits}
            for split, crops in splits.items()
        }
        found = [*others, *notes, *packer.notes()]
        Manifest.of(recorders, packer.faults, found, traits=traits).write(stage)

    return cached(family, fingerprint([_FORMAT, source, parts, others, options]), fill)
