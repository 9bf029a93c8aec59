"""A data set by name or folder: its frames, and what they are called."""

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flax_unet.utils.errors import InputError
from train.data import splits
from train.data.layouts.faults import Fault, unusable
from train.data.layouts.reading import AS_PUBLISHED, Reading
from train.data.layouts.tree import SPLITS
from train.data.storage.manifest import Index, Rows, damaged

EMBEDDED = "forged_portraits"
_INFO = "dataset_info.json"  # TFDS's, beside the records


@dataclasses.dataclass(frozen=True)
class Table:
    """What is known of each frame without its pictures: arrays of one length, in order."""

    file: np.ndarray  # str: name of the picture
    video: np.ndarray  # str: the video that it is from
    original: np.ndarray  # str: of a fake, the videos it was made from, one a line; "" if unknown
    is_real: np.ndarray  # bool
    has_mask: np.ndarray  # bool: whether there is a mask label

    def __len__(self) -> int:
        return len(self.file)

    def take(self, indices: np.ndarray) -> "Table":
        """The rows at `indices`, in their order."""
        return Table(*(getattr(self, field.name)[indices] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a data set."""

    name: str  # as the user gave it
    split: str
    directory: Path  # of the packed set
    records: Sequence[dict[str, Any]]  # pictures and masks as bytes; random access
    indices: np.ndarray  # into `records`: the frames of this split
    table: Table  # of these frames
    faults: dict[str, str]  # files that were left out, with the reason
    notes: list[str]
    fingerprint: str  # SHA-256 of the stored split's names, labels and pictures, wherever they lie

    def __len__(self) -> int:
        return len(self.indices)

    def record(self, row: int) -> dict[str, Any]:
        """The stored frame at a row of the table.

        Raises:
            InputError: the packed data set is damaged.
        """
        return _record(self.records, int(self.indices[row]), self.directory)

    def sample(self, count: int, seed: int) -> "Dataset":
        """`count` frames drawn without replacement, in their order; all if there are fewer."""
        if count >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))

    def take(self, rows: np.ndarray) -> "Dataset":
        """The frames at `rows` of the table, in their order."""
        return dataclasses.replace(self, indices=self.indices[rows], table=self.table.take(rows))


def open_dataset(
    name: str,
    split: str | None,
    *,
    seed: int = 0,
    skip_bad: bool = False,
    reading: Reading = AS_PUBLISHED,
) -> Dataset:
    """Opens a split of a data set, packing or generating the set first if need be.

    Args:
        name: a folder in the published layout; `forged_portraits` (generated faces), or that with
            a source behind a colon: `forged_portraits:avatars`, `forged_portraits:FOLDER`.
        split: a name, or that of a folder that it is read from, such as `testing`; `80/10/10` for
            the test part of a split by source video (`train:80/10/10` for another part); None for
            `test` where there is one, else the whole set.
        seed: of the split by source video.
        skip_bad: whether to go on without files that cannot be used.
        reading: what the files of a folder leave open.

    Raises:
        InputError: the data set or split is unknown or empty, or files cannot be used; the message
            names every kind of fault.
    """
    if seed < 0:
        raise InputError(f"--seed {seed}: expected 0 or more")
    stored, _ = _open(name, skip_bad, reading)
    stored_name, part, shares = _resolve(name, split, list(stored))
    whole = stored[stored_name]
    if not len(whole):
        raise InputError(f"{name}: split {stored_name} holds no frame that can be used")
    if shares is None:
        return whole
    found = split_by_source(whole, shares, seed)[part]
    if not len(found):
        raise InputError(f"{name}: {part} of the split {split} is empty; give it a larger share")
    return found


def split_by_source(data: Dataset, shares: tuple[int, int, int], seed: int) -> dict[str, Dataset]:
    """The parts of a data set, of which no two have frames of one source; they may be empty.

    Args:
        data: what is split.
        shares: per cent of the sources, by `splits.PARTS`.
        seed: of the order in which sources are dealt out.
    """
    table = data.table
    rows = splits.by_source(list(table.video), list(table.original), shares, seed)
    return {part: dataclasses.replace(data.take(found), split=part) for part, found in rows.items()}


def open_splits(
    name: str, *, skip_bad: bool = True, reading: Reading = AS_PUBLISHED
) -> tuple[dict[str, Dataset], dict[str, Fault], list[str]]:
    """Every stored split of a data set that is not empty, by name.

    Args:
        name: as for `open_dataset`.
        skip_bad: whether to go on without files that cannot be used.
        reading: what the files of a folder leave open.

    Returns:
        The splits, the files that cannot be used with the reason, and notes.

    Raises:
        InputError: the data set is unknown, cannot be packed, or is damaged.
    """
    opened, index = _open(name, skip_bad, reading)
    return {split: data for split, data in opened.items() if len(data)}, index.faults, index.notes


def _open(name: str, skip_bad: bool, reading: Reading) -> tuple[dict[str, Dataset], Index]:
    """Every stored split by name, empty ones too, and what else is known of the data set."""
    directory = _prepare(name, skip_bad, reading)
    index = Index.read(directory)
    if index.faults and not skip_bad:
        raise unusable(name, index.faults)
    opened = {
        split: Dataset(
            name=name,
            split=split,
            directory=directory,
            records=_records(directory, split, len(rows)) if len(rows) else (),
            indices=np.arange(len(rows)),
            table=_table(rows),
            faults={file: fault.reason for file, fault in index.faults.items()},
            notes=index.notes,
            fingerprint=rows.fingerprint,
        )
        for split, rows in index.splits.items()
    }
    return opened, index


def _prepare(name: str, skip_bad: bool, reading: Reading) -> Path:
    """The directory of the packed set."""
    embedded, _, source = name.partition(":")
    if embedded == EMBEDDED:
        if given := reading.flags():
            raise InputError(f"{given[0]} is for folders; {name} labels its frames itself")
        from train.data.synthetic import dataset

        return dataset.prepare(source or "procedural", skip_bad=skip_bad)
    path = Path(name)
    if path.is_dir():
        from train.data.storage import published

        return published.pack(path, reading)
    near = difflib.get_close_matches(name, [EMBEDDED], cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise InputError(f"{name} is neither a folder nor a data set ({EMBEDDED}){hint}")


def _resolve(
    name: str, split: str | None, stored: list[str]
) -> tuple[str, str, tuple[int, int, int] | None]:
    """The stored split to read, the part of it to use, and the shares that make parts."""
    if split is None:
        split = "test" if "test" in stored else stored[0]
    if "/" in split:
        part, _, shares = split.rpartition(":")
        part = part or "test"
        if part not in splits.PARTS:
            raise InputError(f"--split {split}: {part} is none of {', '.join(splits.PARTS)}")
        if len(stored) > 1:
            raise InputError(f"{name} has splits of its own ({', '.join(stored)}); name one")
        return stored[0], part, splits.parse_shares(shares)
    if split not in stored and SPLITS.get(split) in stored:
        split = SPLITS[split]
    if split not in stored:
        raise InputError(
            f"{name} has no split {split}, only {', '.join(sorted(stored))}. To split by source, "
            "give per cent for train/validation/test, such as --split 80/10/10"
        )
    return split, split, None


def _records(directory: Path, split: str, count: int) -> Sequence[dict[str, Any]]:
    """The records of a stored split, of which there must be `count`."""
    import tensorflow_datasets as tfds

    info = next(directory.glob(f"*/*/{_INFO}"), None)
    if info is None:
        raise damaged(directory, f"{_INFO} is missing")
    try:
        builder: Any = tfds.builder_from_directory(info.parent)
        records = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except ImportError:
        raise
    except Exception as error:  # TFDS raises whatever the damage leads to
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise damaged(directory, f"split {split}: {reason}") from error
    if len(records) != count:
        raise damaged(directory, f"split {split} has {len(records)} records of {count}")
    return records


def _record(records: Sequence[dict[str, Any]], index: int, directory: Path) -> dict[str, Any]:
    try:
        return records[index]
    except (RuntimeError, ValueError) as error:  # such as a checksum that does not fit
        raise damaged(directory, str(error).partition(";")[0]) from error


def _table(rows: Rows) -> Table:
    return Table(
        file=np.array(rows.file, object),
        video=np.array(rows.video, object),
        original=np.array(rows.original, object),
        is_real=np.array(rows.label, int) == 1,
        has_mask=np.array(rows.has_mask, bool),
    )
