"""Joins the results of parts of an archive (predict --shard) in one directory."""

import argparse
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flax_unet.predict.predictions import (
    LINES,
    NAMES,
    may_be_replaced,
    read_head,
    write_predictions,
)
from flax_unet.predict.report import write_report
from flax_unet.predict.results import Json
from flax_unet.predict.summary import Summary
from flax_unet.utils.arguments import program_name
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.filenames import shown
from flax_unet.utils.files import staged_directory

_EPILOG = """\
DIR gets what one run over all files would have written, in the order of the parts:
predictions.json, predictions.jsonl, predictions.csv, report.html, masks, overlays and logits. The
parts stay as they are; masks and the like are linked where the file system allows it, and copied
otherwise. A part of which every file failed has no directory, and its files are missing here.

Exit status: 0 done; 2 the parts do not belong together, or DIR exists.
"""
# What all parts have in common. They may have been made at different times.
_COMMON = ("checkpoint_source", "image_size", "options", "meaning")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("flax_unet.predict.join"),
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "part", type=Path, nargs="+", help="directory that flax_unet.predict --out wrote"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new directory for all results"
    )
    return parser


def _heads(parts: Sequence[Path]) -> list[Json]:
    """What stands at the beginning of each part's results.

    Raises:
        InputError: there are none, or they are not of one checkpoint, program and set of options.
    """
    heads: list[Json] = []
    for part in parts:
        unfinished = part.with_name(f"{part.name}.unfinished")
        if not may_be_replaced(part) or not (part / LINES).is_file():
            what = f"{shown(str(unfinished))} is not finished; give its command again, then join"
            if not unfinished.is_dir():
                what = "name directories that flax_unet.predict --out wrote"
            raise InputError(f"{shown(str(part))} does not hold complete results; {what}")
        heads.append(read_head(part))
        for name in (*_COMMON, "made_by"):
            first, found = (_same_for_all(name, head) for head in (heads[0], heads[-1]))
            if first != found:
                raise InputError(
                    f"{shown(str(part))} has another {name} than {shown(str(parts[0]))}; judge all "
                    "parts with the same checkpoint, options and versions"
                )
    return heads


def _same_for_all(name: str, head: Json) -> Any:
    if name == "made_by":
        return {key: of for key, of in head[name].items() if key != "created"}
    return head[name]


def _entries(parts: Sequence[Path]) -> Iterator[Json]:
    """The results of all files.

    Raises:
        InputError: a line is damaged.
    """
    for part in parts:
        with (part / LINES).open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise InputError(
                        f"{shown(str(part / LINES))}, line {number}, is damaged; judge this part "
                        "again"
                    ) from error


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _join(parts: Sequence[Path], heads: Sequence[Json], out: Path) -> Summary:
    """Writes the results of all parts to a directory."""
    counts: Counter[str] = Counter()
    for head in heads:
        counts.update(head["summary"])
    # Each part went through all folders, and left out the same.
    summary = Summary(**{**counts, "left_out": heads[0]["summary"]["left_out"]})
    for part in parts:
        for path in sorted(part.iterdir()):
            if path.name not in NAMES:
                try:
                    _link(path, out / path.name)
                except FileExistsError as error:
                    raise InputError(
                        f"{shown(str(path))} is there twice; name each part of one archive once"
                    ) from error
    with (out / LINES).open("wb") as joined:
        for part in parts:
            with (part / LINES).open("rb") as file:
                shutil.copyfileobj(file, joined)
    write_predictions(out, _entries(parts), heads[0], summary.to_json(), heads[0]["left_out"])
    write_report(
        out,
        _entries(parts),
        checkpoint=heads[0]["checkpoint"],
        worth=heads[0]["worth"],
        threshold=heads[0]["options"]["threshold"],
        summary=summary,
    )
    return summary


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    heads = _heads(args.part)
    if len({part.resolve() for part in args.part}) < len(args.part):
        raise InputError("a part is named twice; name each once")
    with staged_directory(args.out) as out:
        summary = _join(args.part, heads, out)
    print(summary)
    print(f"{shown(str(args.out))}: the results of {len(heads)} parts")


if __name__ == "__main__":
    main()
