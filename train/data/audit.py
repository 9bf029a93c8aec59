"""Looks for what makes figures on a data set untrue: leaks, duplicates, gaps."""

import argparse
import hashlib
import io
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from flax_unet.media.images import FORMATS
from flax_unet.utils.arguments import program_name
from flax_unet.utils.errors import command
from train.data.dataset import open_splits
from train.data.layouts.faults import Fault, by_kind
from train.data.layouts.reading import AS_PUBLISHED, Reading, add_options
from train.data.splits import source_of

_SHOWN = 10  # of each kind of finding; the JSON has all


def audit(name: str, reading: Reading = AS_PUBLISHED) -> dict[str, Any]:
    """Examines every frame of a data set.

    Args:
        name: as for `train.data.dataset.open_dataset`.
        reading: what the files of a folder leave open.

    Returns:
        `splits`: by name, frames, videos, sources, REAL and FAKE, missing masks of fakes, and
        sizes of pictures; `shared_sources`: sources with frames in several splits;
        `duplicates`: groups of files with the same pixels, each marked if it crosses splits;
        `faults`: of files that cannot be used, each a `Fault`; `notes`.

    Raises:
        InputError: the data set is unknown.
    """
    splits, faults, notes = open_splits(name, reading=reading)
    tables = [dataset.table for dataset in splits.values()]
    origins = iter(
        source_of(
            [video for table in tables for video in table.video],
            [original for table in tables for original in table.original],
        )
    )
    report: dict[str, Any] = {"data": name, "splits": {}}
    sources: dict[str, set[str]] = defaultdict(set)
    pictures: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for split, dataset in splits.items():
        table = dataset.table
        found = list(itertools.islice(origins, len(table)))
        sizes: Counter[str] = Counter()
        without_mask = 0
        for row in tqdm(range(len(dataset)), unit="frame", desc=split, disable=None):
            record = dataset.record(row)
            with Image.open(io.BytesIO(record["image"]), formats=FORMATS) as image:
                sizes[f"{image.width}x{image.height}"] += 1
                digest = hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes())
            pictures[digest.hexdigest()].append((split, table.file[row]))
            sources[found[row]].add(split)
            without_mask += not record["mask"] and not table.is_real[row]
        report["splits"][split] = {
            "frames": len(dataset),
            "videos": len(set(table.video)),
            "sources": len(set(found)),
            "REAL": int(table.is_real.sum()),
            "FAKE": int((~table.is_real).sum()),
            "fakes_without_mask": without_mask,
            "sizes": dict(sizes.most_common()),
        }
    report["shared_sources"] = {
        source: sorted(found) for source, found in sorted(sources.items()) if len(found) > 1
    }
    report["duplicates"] = [
        {"files": [file for _, file in group], "across_splits": len({s for s, _ in group}) > 1}
        for group in pictures.values()
        if len(group) > 1
    ]
    return {**report, "faults": faults, "notes": notes}


def _text(report: dict[str, Any]) -> str:
    """The findings as tables for people."""
    columns = ("frames", "videos", "sources", "REAL", "FAKE", "fakes_without_mask")
    lines = [f"{'split':12}" + "".join(f"{column:>20}" for column in columns)]
    for split, row in report["splits"].items():
        lines.append(f"{split:12}" + "".join(f"{row[column]:>20,}" for column in columns))
        sizes = [f"{size} ({count:,})" for size, count in row["sizes"].items()]
        lines.append(f"{'':12}sizes: {', '.join(sizes[:_SHOWN])}")
    faults: dict[str, Fault] = report["faults"]
    findings = {
        "sources in more than one split (a leak)": [
            f"{source}: {', '.join(found)}" for source, found in report["shared_sources"].items()
        ],
        "pictures that are there more than once": [
            f"{' = '.join(group['files'])}{' (across splits)' if group['across_splits'] else ''}"
            for group in report["duplicates"]
        ],
        "notes": report["notes"],
    }
    for title, rows in findings.items():
        lines += ["", f"{len(rows)} {title}", *(f"  {row}" for row in rows[:_SHOWN])]
        if len(rows) > _SHOWN:
            lines.append(f"  ... and {len(rows) - _SHOWN} more")
    lines += ["", f"{len(faults)} files that cannot be used"]
    lines += [f"  {line}" for line in by_kind(faults)]
    return "\n".join(lines)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog=program_name("train.data.audit"),
        description=__doc__,
        epilog="A source is the video that a fake goes back to, or a real video itself.",
    )
    parser.add_argument("data", help="a folder in the published layout, or a data set's name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all findings here")
    add_options(parser)
    args = parser.parse_args(argv)
    report = audit(args.data, Reading.of(args))
    print(_text(report))
    if args.json is not None:
        from flax_unet.utils.files import staged_file

        with staged_file(args.json) as stage:
            faults = {file: fault.reason for file, fault in report["faults"].items()}
            stage.write_text(json.dumps(report | {"faults": faults}, indent=1), encoding="utf-8")
        print(f"\n{args.json}: all findings")


if __name__ == "__main__":
    main()
