"""A CSV that lists videos or pictures: file,label and, if known, original,split."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath

from flax_unet.utils.errors import InputError
from train.data.layouts.metadata import LABELS
from train.data.layouts.tree import SPLITS
from train.prepare.layouts.record import Fault, Layout, ListOptions, Video, read_table


def _videos(path: Path, options: ListOptions) -> Iterator[Video | Fault]:
    rows = read_table(path, ("file", "label"))
    labels = _labels(path, {_label(row) for row in rows}, options.real_label)
    originals = _Originals(path, rows, labels)
    for row in rows:
        file, is_real = _file(path, row["file"]), labels.get(_label(row))
        split = (row.get("split") or "").strip().lower()
        if not file.is_file():
            yield Fault(str(file), f"it is missing, and {path.name} names it")
        elif is_real is None:
            yield Fault(str(file), "its label is empty")
        elif split and split not in SPLITS:
            yield Fault(str(file), f"its split {split!r:.40} is not train, validation or test")
        else:
            named = "" if is_real else (row.get("original") or "").strip()
            found = originals.find(named) if named else []
            if len(found) > 1:
                which = f"{found[0]} or {found[1]}; write which one into the column original"
                yield Fault(str(file), f"its original {named} may be {which}")
                continue
            note = f"its original {named} is not in the column file of {path.name}"
            yield Video(
                file,
                row["file"],
                bool(is_real),
                path.resolve().stem,
                (*found, named)[:1] if named else (),
                split=SPLITS[split] if split else None,
                notes=(note,) if named and not found else (),
            )


class _Originals:
    """Finds the files that the column `original` means."""

    def __init__(self, table: Path, rows: Sequence[dict[str, str]], labels: dict[str, int]) -> None:
        self._table = table
        self._by_path = {_file(table, row["file"]): row["file"] for row in rows}
        self._real: dict[str, list[str]] = defaultdict(list)  # by name with and without suffix
        is_real = {row["file"]: labels.get(_label(row)) for row in rows}
        for name in filter(is_real.get, self._by_path.values()):
            path = PureWindowsPath(name.strip())  # which / separates, too
            for text in {path.name, path.stem}:
                self._real[text].append(name)

    def find(self, original: str) -> list[str]:
        """The file of this path, or the real ones of this name: as their own rows name them."""
        exact = self._by_path.get(_file(self._table, original))
        return self._real[original] if exact is None else [exact]


def _file(table: Path, name: str) -> Path:
    """A file that a table names, relative to it; Windows paths are read too."""
    name = name.strip()
    path = table.parent / name
    return path if path.is_file() or "\\" not in name else table.parent / name.replace("\\", "/")


def _label(row: dict[str, str]) -> str:
    return row["label"].strip().lower()


def _labels(path: Path, found: set[str], real_label: str | None) -> dict[str, int]:
    """The meaning of labels: 1 = REAL.

    Raises:
        InputError: it is not known, or not as `real_label` says.
    """
    found = found - {""}
    if real_label is None:
        if unknown := sorted(found - LABELS.keys()):
            raise InputError(
                f"{path} has the label {unknown[0]}; expected REAL or FAKE, or --real-label with "
                "the one that means REAL"
            )
        return LABELS
    if real_label not in found or len(found) > 2:
        raise InputError(
            f"--real-label {real_label}: {path} has the labels {', '.join(sorted(found))}; "
            "expected this one and one other"
        )
    return {label: int(label == real_label) for label in found}


LAYOUT = Layout(
    "a CSV file whose first line is file,label (further columns: original,split)",
    lambda path: path.suffix.lower() == ".csv" and not os.path.isdir(path),  # noqa: PTH112
    _videos,
)
