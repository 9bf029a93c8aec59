"""Writes frames of a data set as picture files, in a folder of the published layout.

OUT/crops/<video>_<n>.png   OUT/masks/<video>_<n>.gif   OUT/metadata.json
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flax_unet.nn.decision import label
from flax_unet.utils.arguments import program_name
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.files import staged_directory
from train.data.dataset import EMBEDDED, Dataset, open_dataset
from train.data.layouts.masks import decode, save
from train.data.layouts.options import FolderOptions, add_options

# Characters that cannot be in a video's key, and their replacements.
_ESCAPES = str.maketrans({"_": "-", "-": "%2D", "/": "%2F", "%": "%25"})


def export(data: Dataset, out: Path) -> None:
    """Writes every frame of `data` into the new directory `out`; pictures keep their bytes.

    Raises:
        InputError: `out` exists or cannot be written, or the data set is damaged.
    """
    with staged_directory(out) as stage:
        for folder in ("crops", "masks"):
            (stage / folder).mkdir()
        metadata: dict[str, dict[str, str | list[str] | None]] = {}
        frames: Counter[str] = Counter()
        for row in range(len(data)):
            record, source = data.record(row), data.table.video[row]
            video = _key(source)
            name = f"{video.removesuffix('.mp4')}_{frames[video]}"
            frames[video] += 1
            (stage / "crops" / f"{name}.png").write_bytes(record["image"])
            if record["mask"]:
                save(decode(record["mask"]) != 0, stage / "masks" / f"{name}.gif")
            originals = [_key(name) for name in data.table.original[row].split("\n") if name]
            metadata[video] = {
                "label": label(data.table.is_real[row]),
                "original": originals if len(originals) > 1 else next(iter(originals), None),
                **data.traits.get(source, {}),
            }
        (stage / "metadata.json").write_text(json.dumps(metadata, indent=1), encoding="utf-8")


def _key(video: str) -> str:
    """A video's key in the published metadata, where a name ends at the first underscore.

    No two videos have the same key.
    """
    return video.removesuffix(".mp4").translate(_ESCAPES) + ".mp4"


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog=program_name("train.data.export"), description=__doc__)
    add = parser.add_argument
    add("out", type=Path, help="directory to create")
    add("--data", default=EMBEDDED, help=f"data set, as for train.eval (default: {EMBEDDED})")
    add("--split", help="split to write, as for train.eval (default: test)")
    add("--limit", type=int, metavar="N", help="write N frames, drawn with --seed")
    add("--seed", type=int, default=0, help="of --limit and --split (default: 0)")
    add("--skip-bad", action="store_true", help="go on without files that cannot be used")
    add_options(parser)
    args = parser.parse_args(argv)
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit {args.limit}: expected at least 1")
    options = FolderOptions.of(args)
    data = open_dataset(
        args.data, args.split, seed=args.seed, skip_bad=args.skip_bad, options=options
    )
    if args.limit is not None:
        data = data.sample(args.limit, args.seed)
    export(data, args.out)
    print(f"{args.out}: {len(data)} frames of {args.data}, split {data.split}")
    for note in data.notes:
        print(f"note: {note}")
    if data.faults:
        print(f"{len(data.faults)} files of {args.data} cannot be used and were left out")


if __name__ == "__main__":
    main()
