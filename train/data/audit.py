"""Looks for flaws in a data set that make its figures wrong: leaks, duplicates, missing masks."""

import argparse
import contextlib
import hashlib
import itertools
import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from tqdm import tqdm

from flax_unet.utils.arguments import program_name
from flax_unet.utils.errors import command, counted
from flax_unet.utils.files import staged_file
from train.data.dataset import open_splits
from train.data.layouts import image_files
from train.data.layouts.faults import Fault, by_kind
from train.data.layouts.options import AS_PUBLISHED, FolderOptions, add_options
from train.data.splits import source_of

_SHOWN = 10  # of each kind of finding; the JSON has all


def audit(name: str, options: FolderOptions = AS_PUBLISHED) -> dict[str, Any]:
    """Examines every frame of a data set, named as for `train.data.dataset.open_dataset`.

    Returns:
        `splits`: by name, frames, videos, sources, REAL and FAKE, missing masks of fakes, and
        sizes of pictures; `shared_sources`: sources with frames in several splits;
        `duplicates`: groups of files with the same pixels, each marked if it crosses splits;
        `faults`: by file that cannot be used, its `Fault`; `left_out`: by photo, why faces of it
        are not used; `notes`.

    Raises:
        InputError: the data set is unknown, cannot be packed, or is damaged.
    """
    splits, faults, notes = open_splits(name, options=options)
    videos = itertools.chain.from_iterable(data.table.video for data in splits.values())
    links = itertools.chain.from_iterable(data.links() for data in splits.values())
    origins = iter(source_of(videos, links))
    rows_of_splits: dict[str, dict[str, Any]] = {}
    sources: dict[str, set[str]] = defaultdict(set)
    pictures: dict[str, list[tuple[str, str]]] = defaultdict(list)
    turned: list[str] = []
    for split, dataset in splits.items():
        table = dataset.table
        found = [next(origins) for _ in range(len(table))]
        sizes: Counter[str] = Counter()
        without_mask = 0
        for row in tqdm(range(len(dataset)), unit="frame", desc=split, disable=None):
            record = dataset.record(row)
            image = image_files.decode(record["image"])
            sizes[f"{image.width}x{image.height}"] += 1
            digest = hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes())
            if _orientation(image) != 1:
                turned.append(table.file[row])
            pictures[digest.hexdigest()].append((split, table.file[row]))
            sources[found[row]].add(split)
            without_mask += not record["mask"] and not table.is_real[row]
        rows_of_splits[split] = {
            "frames": len(dataset),
            "videos": len(set(table.video)),
            "sources": len(set(found)),
            "REAL": int(table.is_real.sum()),
            "FAKE": int((~table.is_real).sum()),
            "fakes_without_mask": without_mask,
            "sizes": dict(sizes.most_common()),
        }
    if turned:
        notes = [
            *notes,
            f"{counted(len(turned), 'picture')}, such as {turned[0]}, would be turned by EXIF "
            "data; training and evaluation read pixels as they are stored, as the published code "
            "does, and predict reads them upright: save them upright, without EXIF",
        ]
    return {
        "data": name,
        "splits": rows_of_splits,
        "shared_sources": {s: sorted(of) for s, of in sorted(sources.items()) if len(of) > 1},
        "duplicates": [
            {"files": [file for _, file in group], "across_splits": len({s for s, _ in group}) > 1}
            for group in pictures.values()
            if len(group) > 1
        ],
        "faults": faults,
        "left_out": {file: why for data in splits.values() for file, why in data.left_out.items()},
        "notes": notes,
    }


def _orientation(image: Image.Image) -> int:
    """How EXIF data would turn a picture, from 1 for upright; 1 also where they are damaged."""
    with warnings.catch_warnings(), contextlib.suppress(Exception):  # as `images.read_image` does
        warnings.simplefilter("ignore")
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    return 1


def _text(report: dict[str, Any]) -> str:
    """The findings as tables for people."""
    columns = ("frames", "videos", "sources", "REAL", "FAKE", "fakes_without_mask")
    lines = [f"{'split':12}" + "".join(f"{column:>20}" for column in columns)]
    for split, row in report["splits"].items():
        lines.append(f"{split:12}" + "".join(f"{row[column]:>20,}" for column in columns))
        sizes = [f"{size} ({count:,})" for size, count in row["sizes"].items()]
        lines.append(f"{'':12}sizes: {', '.join(sizes[:_SHOWN])}")
    findings = {
        "Sources in more than one split (a leak)": [
            f"{source}: {', '.join(found)}" for source, found in report["shared_sources"].items()
        ],
        "Pictures that occur more than once": [
            f"{' = '.join(group['files'])}{' (across splits)' if group['across_splits'] else ''}"
            for group in report["duplicates"]
        ],
        "Notes": report["notes"],
    }
    for title, rows in findings.items():
        lines += ["", f"{title}: {len(rows)}", *(f"  {row}" for row in rows[:_SHOWN])]
        if len(rows) > _SHOWN:
            lines.append(f"  ... and {len(rows) - _SHOWN} more")
    faults: dict[str, Fault] = report["faults"]
    lines += ["", f"Files that cannot be used: {len(faults)}"]
    lines += [f"  {line}" for line in by_kind(faults)]
    return "\n".join(lines)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog=program_name("train.data.audit"),
        description=__doc__,
        epilog="The source of a frame is its real video, or the real video that a fake is made of; "
        "videos with one source_group in metadata.json have one source.",
    )
    parser.add_argument("data", help="a folder in the published layout, or a data set's name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all findings to this file")
    add_options(parser)
    args = parser.parse_args(argv)
    report = audit(args.data, FolderOptions.of(args))
    print(_text(report))
    if args.json is not None:
        faults = {file: fault.reason for file, fault in report["faults"].items()}
        with staged_file(args.json) as stage:
            stage.write_text(json.dumps(report | {"faults": faults}, indent=1), encoding="utf-8")
        print(f"\n{args.json}: all findings")


if __name__ == "__main__":
    main()
