"""A data set by name or folder: its frames, and what they are called."""

import dataclasses
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flax_unet.errors import InputError
from flax_unet.files import staged_file
from train.data import splits

EMBEDDED = "forged_portraits"
_TEXT = ("file", "video", "original")


@dataclasses.dataclass(frozen=True)
class Table:
    """What is known of each frame without its pictures: arrays of one length, in order."""

    file: np.ndarray  # str: name of the picture
    video: np.ndarray  # str: the video that it is from
    original: np.ndarray  # str: of a fake, the video it was made from; "" if unknown
    is_real: np.ndarray  # bool

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
    directory: Path  # of the packed set, named for the fingerprint of what it was made from
    records: Sequence[dict[str, Any]]  # pictures and masks as bytes; random access
    indices: np.ndarray  # into `records`: the frames of this split
    table: Table  # of these frames
    faults: dict[str, str]  # files that were left out, with the reason
    notes: list[str]

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


def open_dataset(name: str, split: str | None, *, seed: int = 0, skip_bad: bool = False) -> Dataset:
    """Opens a split of a data set, packing or generating the set first if need be.

    Args:
        name: a folder in the published layout; `forged_portraits` (generated faces), or that with
            a source behind a colon: `forged_portraits:avatars`, `forged_portraits:FOLDER`.
        split: a name; `80/10/10` for the test part of a split by source video (`train:80/10/10`
            for another part); None for `test` where there is one, else the whole set.
        seed: of the split by source video.
        skip_bad: whether to go on without files that cannot be used.

    Raises:
        InputError: the data set or split is unknown or empty, or files cannot be used; the message
            lists all of them.
    """
    stored, faults, _ = open_splits(name)
    if faults and not skip_bad:
        listed = "\n  ".join(f"{file}: {reason}" for file, reason in sorted(faults.items()))
        raise InputError(
            f"{name} has {len(faults)} files that cannot be used; repair or remove them, or go on "
            f"without them by --skip-bad:\n  {listed}"
        )
    stored_name, part, shares = _resolve(name, split, list(stored))
    whole = stored[stored_name]
    if shares is None:
        return whole
    rows = splits.by_source(list(whole.table.video), list(whole.table.original), shares, seed)[part]
    if not len(rows):
        raise InputError(f"{name}: {part} of the split {split} is empty; give it a larger share")
    return dataclasses.replace(whole.take(rows), split=part)


def open_splits(name: str) -> tuple[dict[str, Dataset], dict[str, str], list[str]]:
    """Every stored split of a data set that is not empty, by name.

    Returns:
        The splits, the files that cannot be used with the reason, and notes.

    Raises:
        InputError: the data set is unknown, or cannot be packed.
    """
    import tensorflow_datasets as tfds

    directory, faults, notes = _prepare(name)
    opened: dict[str, Dataset] = {}
    for found in directory.rglob("dataset_info.json"):  # none if no file can be used
        builder: Any = tfds.builder_from_directory(found.parent)
        for split, info in builder.info.splits.items():
            if info.num_examples:
                decoders = {"image": tfds.decode.SkipDecoding()}
                records = builder.as_data_source(split, decoders=decoders)
                table = _table(records, directory, split)
                opened[split] = Dataset(
                    name,
                    split,
                    directory,
                    records,
                    np.arange(len(table)),
                    table,
                    faults,
                    notes,
                )
    return opened, faults, notes


def _prepare(name: str) -> tuple[Path, dict[str, str], list[str]]:
    """The directory of the packed set, files that were left out, and notes."""
    embedded, _, source = name.partition(":")
    if embedded == EMBEDDED:
        from train.data import forged_portraits

        return forged_portraits.prepare(source or "procedural"), {}, []
    path = Path(name)
    if path.is_dir():
        from train.data import published

        return published.pack(path)
    near = difflib.get_close_matches(name, [EMBEDDED], cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise InputError(f"{name} is neither a folder nor a data set ({EMBEDDED}){hint}")


def _resolve(
    name: str, split: str | None, stored: list[str]
) -> tuple[str, str, tuple[int, int, int] | None]:
    """The stored split to read, the part of it to use, and the shares that make parts."""
    if not stored:
        raise InputError(f"{name} holds no frame that can be used")
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
    if split not in stored:
        raise InputError(
            f"{name} has no split {split}, only {', '.join(sorted(stored))}. To split by source, "
            "give per cent for train/validation/test, such as --split 80/10/10"
        )
    return split, split, None


def _record(records: Sequence[dict[str, Any]], index: int, directory: Path) -> dict[str, Any]:
    try:
        return records[index]
    except RuntimeError as error:  # ArrayRecord's word for a checksum that does not fit
        raise InputError(
            f"{directory} is damaged: {str(error).partition(';')[0]}. Delete it; it is made again"
        ) from error


def _table(records: Sequence[dict[str, Any]], directory: Path, split: str) -> Table:
    """The table of a stored split; it is kept beside it, since it takes reading every record."""
    kept = directory / f"{split}.json"
    if not kept.exists():
        columns: dict[str, list] = {name: [] for name in (*_TEXT, "label")}
        for i in tqdm(range(len(records)), unit="frame", desc="Listing", disable=None):
            record = _record(records, i, directory)
            for name in _TEXT:
                columns[name].append(record[name].decode())
            columns["label"].append(int(record["label"]))
        with staged_file(kept) as stage:
            stage.write_text(json.dumps(columns), encoding="utf-8")
    columns = json.loads(kept.read_text(encoding="utf-8"))
    text = {name: np.array(columns[name], object) for name in _TEXT}
    return Table(**text, is_real=np.array(columns["label"], int) == 1)
