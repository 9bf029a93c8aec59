"""Opens a data set by its name or folder: splits of frames with labels."""

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from flax_unet.checkpoint.worth import GENERATED
from flax_unet.utils.errors import InputError
from train.data import splits
from train.data.layouts.faults import Fault, unusable
from train.data.layouts.metadata import SOURCE_GROUP
from train.data.layouts.options import AS_PUBLISHED, FolderOptions
from train.data.layouts.tree import SPLITS
from train.data.storage.cache import fingerprint
from train.data.storage.manifest import Manifest, Table, Traits, damaged

EMBEDDED, SELF_BLENDED = GENERATED
_INFO = "dataset_info.json"  # TFDS writes it beside the records


@runtime_checkable
class Redrawable(Protocol):
    """Records that each epoch of training may see in another state."""

    def redrawn(self, seed: int, epoch: int) -> Sequence[dict[str, Any]]:
        """The records of an epoch."""
        ...


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
    left_out: dict[str, str]  # photos without a face to use, or with others, and why
    notes: list[str]
    fingerprint: str  # SHA-256 of the stored split's names, labels, pictures and source groups
    traits: Traits  # of the stored split's videos
    made_with: str = ""  # SHA-256 of the code and versions that forge its frames; "": none are
    together: int = 1  # frames that training shows together; 2: a face and a forgery of it

    def __len__(self) -> int:
        return len(self.indices)

    def record(self, row: int) -> dict[str, Any]:
        """The stored frame at a row of the table.

        Raises:
            InputError: the packed data set is damaged.
        """
        try:
            return self.records[int(self.indices[row])]
        except (RuntimeError, ValueError) as error:  # such as a checksum that does not match
            raise damaged(self.directory, str(error).partition(";")[0]) from error

    def links(self) -> list[str]:
        """Of each frame, the videos that a fake was made from and the source group, one a line."""
        groups = (self.traits.get(video, {}).get(SOURCE_GROUP) for video in self.table.video)
        return ["\n".join(filter(None, of)) for of in zip(self.table.original, groups, strict=True)]

    def pictures(self) -> Self:
        """The same frames with an empty table, for processes that read nothing but `record`."""
        nothing = {"faults": {}, "left_out": {}, "notes": []}
        return dataclasses.replace(self, table=self.table.take(np.arange(0)), **nothing)

    def in_epoch(self, seed: int, epoch: int) -> Self:
        """The frames as an epoch of training, from 0, shows them: some are made for each."""
        if not isinstance(self.records, Redrawable):
            return self
        return dataclasses.replace(self, records=self.records.redrawn(seed, epoch))

    def sample(self, count: int, seed: int) -> Self:
        """`count` frames drawn without replacement, in their order; all if there are fewer."""
        if count >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))

    def take(self, rows: np.ndarray) -> Self:
        """The frames at `rows` of the table, in their order."""
        return dataclasses.replace(self, indices=self.indices[rows], table=self.table.take(rows))


def open_dataset(
    name: str,
    split: str | None,
    *,
    part: str = "test",
    seed: int = 0,
    skip_bad: bool = False,
    options: FolderOptions = AS_PUBLISHED,
) -> Dataset:
    """Opens a split of a data set. The set is packed or generated first where necessary.

    Args:
        name: a folder in the published layout; `forged_portraits` (generated faces); or
            `forged_portraits:avatars` or `forged_portraits:FOLDER` for faces in photos; the same
            with `self_blended`, whose forgeries are made anew in each epoch of training.
        split: a split, or the folder that it is read from, such as `testing`; `80/10/10` for
            a part of a split by source video (`train:80/10/10` for another part); None for `part`
            if it exists, else `validation` or the whole set.
        part: what is opened where `split` does not say it.
        seed: of the split by source video.
        skip_bad: whether to leave out files that cannot be used.
        options: options for the files of a folder.

    Raises:
        InputError: the data set or split is unknown or empty, or files cannot be used; the message
            names every kind of fault.
    """
    if seed < 0:
        raise InputError(f"--seed {seed}: expected 0 or more")
    stored, _ = _open(name, skip_bad, options)
    stored_name, chosen, shares = _resolve(name, split, part, list(stored))
    whole = stored[stored_name]
    if not len(whole):
        raise InputError(f"{name}: split {stored_name} holds no frame that can be used")
    if shares is None:
        return whole
    found = split_by_source(whole, shares, seed)[chosen]
    if not len(found):
        raise InputError(f"{name}: {chosen} of the split {split} is empty; give it a larger share")
    return found


def split_by_source(data: Dataset, shares: tuple[int, int, int], seed: int) -> dict[str, Dataset]:
    """Splits a data set by `splits.by_source`; a part may be empty."""
    rows = splits.by_source(data.table.video, data.links(), shares, seed)
    return {part: dataclasses.replace(data.take(found), split=part) for part, found in rows.items()}


def open_splits(
    name: str, *, skip_bad: bool = True, options: FolderOptions = AS_PUBLISHED
) -> tuple[dict[str, Dataset], dict[str, Fault], list[str]]:
    """Opens every stored split of a data set that is not empty; arguments as `open_dataset`.

    Returns:
        The splits by name, the files that cannot be used with the reason, and notes.

    Raises:
        InputError: the data set is unknown, cannot be packed, or is damaged.
    """
    opened, manifest = _open(name, skip_bad, options)
    opened = {split: data for split, data in opened.items() if len(data)}
    return opened, manifest.faults, manifest.notes


def _open(name: str, skip_bad: bool, options: FolderOptions) -> tuple[dict[str, Dataset], Manifest]:
    """Opens every stored split, empty ones too."""
    directory = _prepare(name, skip_bad, options)
    manifest = Manifest.read(directory)
    if manifest.faults and not skip_bad:
        raise unusable(name, manifest.faults)
    opened = {
        split: Dataset(
            name=name,
            split=split,
            directory=directory,
            records=_records(directory, split, len(table)) if len(table) else (),
            indices=np.arange(len(table)),
            table=table,
            faults={file: fault.reason for file, fault in manifest.faults.items()},
            left_out=manifest.left_out,
            notes=manifest.notes,
            fingerprint=_fingerprint(manifest.fingerprints[split], manifest.traits[split]),
            traits=manifest.traits[split],
        )
        for split, table in manifest.tables.items()
    }
    if name.partition(":")[0] == SELF_BLENDED:
        from train.data.synthetic import fresh

        opened = {split: fresh.paired(faces) for split, faces in opened.items()}
    return opened, manifest


def _fingerprint(stored: str, traits: Traits) -> str:
    """That of a split: source groups decide on the parts of a split by source, as names do."""
    groups = sorted(
        (v, found[SOURCE_GROUP]) for v, found in traits.items() if SOURCE_GROUP in found
    )
    return fingerprint([stored, *groups]) if groups else stored


def _prepare(name: str, skip_bad: bool, options: FolderOptions) -> Path:
    """Packs or generates the data set where necessary; returns its directory."""
    embedded, _, source = name.partition(":")
    if embedded in GENERATED:
        if given := options.flags():
            raise InputError(f"{given[0]} is for folders; {name} labels its frames itself")
        from train.data.synthetic import dataset

        return dataset.prepare(source or "procedural", embedded, skip_bad=skip_bad)
    path = Path(name)
    if path.is_dir():
        from train.data.storage import published

        return published.pack(path, options)
    near = difflib.get_close_matches(name, GENERATED, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise InputError(f"{name} is neither a folder nor a data set ({', '.join(GENERATED)}){hint}")


def _resolve(
    name: str, split: str | None, part: str, stored: list[str]
) -> tuple[str, str, tuple[int, int, int] | None]:
    """The stored split to read, the part of it to use, and the shares that make parts."""
    if split is None:
        split = next((one for one in (part, "validation") if one in stored), stored[0])
    if "/" in split:
        named, _, shares = split.rpartition(":")
        part = named or part
        if part not in splits.PARTS:
            raise InputError(f"--split {split}: {part} is not one of {', '.join(splits.PARTS)}")
        if len(stored) > 1:
            raise InputError(f"{name} has splits of its own ({', '.join(stored)}); name one")
        return stored[0], part, splits.parse_shares(shares)
    if split not in stored and (named := SPLITS.get(split.lower())) in stored:
        split = named
    if split not in stored:
        raise InputError(
            f"{name} has no split {split}, only {', '.join(sorted(stored))}. To split by source, "
            "give per cent for train/validation/test, such as --split 80/10/10"
        )
    return split, split, None


def _records(directory: Path, split: str, count: int) -> Sequence[dict[str, Any]]:
    """The records of a stored split; there must be `count`."""
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
