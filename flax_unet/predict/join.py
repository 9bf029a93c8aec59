"""Joins the results of parts of an archive (predict --shard) in one directory."""

import argparse
import itertools
import json
import os
import shutil
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from flax_unet.checkpoint.provenance import made_by
from flax_unet.predict.findings import Findings
from flax_unet.predict.plan import WHOLE, Shard, shard
from flax_unet.predict.predictions import (
    ARCHIVE,
    JSON,
    LINES,
    NAMES,
    WEIGHTS,
    may_be_replaced,
    read_head,
    write_predictions,
    write_summary,
)
from flax_unet.predict.report import PICTURES, write_report
from flax_unet.predict.results import Json
from flax_unet.predict.summary import Summary
from flax_unet.predict.writer import is_result
from flax_unet.utils.arguments import program_name
from flax_unet.utils.errors import InputError, command, counted
from flax_unet.utils.filenames import shown
from flax_unet.utils.files import UNFINISHED, staged_directory

_EPILOG = """\
DIR gets what one run over all files would have written, in the order of the parts:
predictions.json, predictions.jsonl, predictions.csv, summary.csv, report.html, masks, overlays and
logits. The parts stay as they are; masks and the like are linked where the file system allows it,
and copied otherwise.

Exit status: 0 done; 2 the parts are not all parts of one archive, or DIR exists.
"""
_AGAIN = "judge this part again"
_SHOWN = 10  # numbers of missing parts
# What all parts have in common. They may have been made at different times.
_COMMON = (
    *(ARCHIVE, WEIGHTS, "checkpoint_source", "image_size", "options", "face_model"),
    *("max_megapixels", "batch_size", "overlays", "meaning", "made_by"),
)


class _Part(NamedTuple):
    """The results of a part."""

    directory: Path
    name: str  # printable
    shard: Shard
    head: Json  # of predictions.json
    summary: Summary

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Reads what stands before the files.

        Raises:
            InputError: it does not hold complete results.
        """
        name = shown(str(directory))
        if not may_be_replaced(directory) or not (directory / LINES).is_file():
            whole = directory.resolve()
            is_begun = (whole.parent / f"{whole.name}{UNFINISHED}").is_dir()
            remedy = "name directories that flax_unet.predict --out wrote"
            if is_begun or whole.name.endswith(UNFINISHED):
                remedy = "its run is not finished: give its command again, then join the parts"
            raise InputError(f"{name} does not hold complete results; {remedy}")
        head = read_head(directory)
        try:
            summary = Summary(**head["summary"])
            part = cls(directory, name, shard(head["shard"]), head, summary)
            threshold = float(head["options"]["threshold"])
            texts = [head[key] for key in ("checkpoint", "worth", "worth_in_short")]
            texts.append(head["made_by"].pop("created"))
            if not 0 < threshold < 1 or not all(isinstance(text, str) for text in texts):
                raise ValueError("values of other kinds")
            if missing := {*_COMMON, "left_out"} - head.keys():
                raise KeyError(*missing)
        except (KeyError, TypeError, ValueError, AttributeError, ArgumentTypeError) as error:
            damage = f"{directory / JSON} is damaged, or was written by another version"
            raise InputError(f"{damage}; {_AGAIN}") from error
        return part

    def entries(self) -> Iterator[Json]:
        """The results of its files.

        Raises:
            InputError: a line is damaged or missing.
        """
        count, path = 0, self.directory / LINES
        with path.open("rb") as file:
            for count, line in enumerate(file, start=1):
                try:
                    yield _entry(line)
                except ValueError as error:
                    raise InputError(f"{path}, line {count}, is damaged; {_AGAIN}") from error
        if count != self.summary.files:
            raise InputError(
                f"{path} has {count:,} lines for {self.summary.files:,} files; {_AGAIN}"
            )


def _entry(line: bytes) -> Json:
    """The result in a line of a part, which may come from others.

    Raises:
        ValueError: it is not JSON, or names pictures that are not in the part's directory.
    """
    entry = json.loads(line)
    for key in PICTURES if isinstance(entry, dict) else ():
        name = str(entry.get(key, ""))
        if name and (Path(name).name != name or not is_result(name)):
            raise ValueError(f"{key} is not a file of these results")
    return entry


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("flax_unet.predict.join"),
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "part", type=Path, nargs="+", help="directory that flax_unet.predict --shard --out wrote"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new directory for all results"
    )
    return parser


def _parts(directories: Sequence[Path]) -> list[_Part]:
    """The parts of an archive, in order.

    Raises:
        InputError: these are not all parts of one archive, each once.
    """
    parts = [*map(_Part.read, directories)]
    first = parts[0]
    by_number: dict[int, _Part] = {}
    for part in parts:
        for key in _COMMON:
            if part.head[key] != first.head[key]:
                raise InputError(
                    f"{part.name} has another {key} than {first.name}; judge all parts with the "
                    "same files, checkpoint, options and versions"
                )
        if part.shard.parts != first.shard.parts:
            raise InputError(
                f"{part.name} is part {part.shard} and {first.name} part {first.shard}; name the "
                "parts of one archive"
            )
        if (other := by_number.setdefault(part.shard.part, part)) is not part:
            raise InputError(
                f"{part.name} and {other.name} are both part {part.shard}; name each part once"
            )
    if missing := sorted({*range(1, first.shard.parts + 1)} - by_number.keys()):
        names = ", ".join(f"{number}/{first.shard.parts}" for number in missing[:_SHOWN])
        more = ", ..." if len(missing) > _SHOWN else ""
        raise InputError(f"parts are missing: {names}{more}; name the directories of all parts")
    return [by_number[number] for number in sorted(by_number)]


def _link(source: Path, target: Path) -> None:
    """Raises a FileExistsError if something stands at the target."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _join(parts: Sequence[_Part], out: Path) -> Summary:
    """Writes the results of all parts to a directory."""
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.summary.to_json())
        for path in sorted(part.directory.iterdir()):
            if path.name not in NAMES:
                try:
                    _link(path, out / path.name)
                except FileExistsError as error:
                    raise InputError(
                        f"{path} is in another part too; name the parts of one archive"
                    ) from error
        with (out / LINES).open("ab") as joined, (part.directory / LINES).open("rb") as file:
            shutil.copyfileobj(file, joined)
    # Each part went through all folders, and left out the same.
    head = {**parts[0].head, "shard": str(WHOLE), "made_by": made_by()}
    summary = Summary(**{**counts, "left_out": parts[0].summary.left_out})

    def entries() -> Iterator[Json]:
        return itertools.chain.from_iterable(part.entries() for part in parts)

    try:
        write_predictions(out, entries(), head, summary.to_json(), head["left_out"])
        found = Findings.of(entries(), head["options"]["threshold"])
        write_report(out, found, head=head, summary=summary, left_out=head["left_out"])
        write_summary(out, found, summary)
    except (KeyError, TypeError, AttributeError) as error:
        names = ", ".join(part.name for part in parts)
        raise InputError(f"a line of {LINES} of {names} is damaged; {_AGAIN}") from error
    return summary


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    for directory in args.part:
        if args.out.resolve().is_relative_to(directory.resolve()):
            raise InputError(f"{args.out} lies in {directory}; name a directory outside of it")
    parts = _parts(args.part)
    with staged_directory(args.out) as out:
        summary = _join(parts, out)
    print(summary)
    print(f"{shown(str(args.out))}: the results of {counted(len(parts), 'part')}")


if __name__ == "__main__":
    main()
