"""The command line of `flax_unet.predict`, checked before the network is loaded."""

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from flax_unet.checkpoint import metadata
from flax_unet.media.discover import Item
from flax_unet.media.faces import MIN_FACE, Mode
from flax_unet.media.images import MAX_PIXELS, is_picture
from flax_unet.media.videos import Sampling, container
from flax_unet.nn.config import DTYPES
from flax_unet.nn.decision import POLARITY
from flax_unet.predict.plan import WHOLE, shard
from flax_unet.predict.predictions import JSON, LINES, SUMMARY, TABLE, may_be_replaced, others
from flax_unet.predict.report import REPORT
from flax_unet.predict.results import ENOUGH_FRAMES, ENOUGH_SHARE
from flax_unet.utils.arguments import (
    add_threshold,
    at_least_one,
    at_least_zero,
    between_0_and_1,
    program_name,
)
from flax_unet.utils.errors import InputError, require
from flax_unet.utils.filenames import shown

_FRAMES_OF_MANY = 32  # of a video in a folder

_EPILOG = f"""\
Faces are brought to the network's size as the published evaluation does (PIL, NEAREST, divided by
255). {POLARITY}

--faces auto cuts out each face with a third of its size around it, or judges the whole picture if
one face fills it; crop always cuts; none judges every picture as the crop of one face. Faces under
{MIN_FACE} pixels are reported, not judged. A picture has the verdict of the face that is most
likely FAKE. In videos, people are followed from frame to frame: a video has the mean probability
of the person who is FAKE most likely, among those seen in at least {ENOUGH_SHARE:.0%} of the frames
with a face and in {ENOUGH_FRAMES} or more.

In the results of a run that was interrupted, DIR.unfinished, each file that is done is a line of
{LINES}; the same command goes on with it.

--out DIR gets, for each picture X with a face, X.mask.png at the picture's size. --save-logits adds
X.logits.npy for pictures and videos: float32 (faces, H, W, 2) on the network's grid over each
face's box, class 0 untouched, class 1 MANIPULATED, faces in the order of {JSON}.

In folders, hidden files, links to other folders and other kinds of files are left out; the end of
the output and {JSON} count them.

What the weights were trained and measured on is printed on standard error, in one sentence.

Exit status: 0 everything was judged, whatever was found; 1 some files failed, or all of one part
(--shard); 2 all did, and DIR is not written. A video that is cut short counts as failed; what could
be read of it is judged.
"""


def parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = argparse.ArgumentParser(
        prog=program_name("flax_unet.predict"),
        description=description,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="directory that convert.from_torch wrote")
    add(
        "path",
        type=Path,
        nargs="+",
        help="pictures, videos and folders of them; - reads such paths from standard input",
    )
    add("--faces", choices=get_args(Mode), default="auto", help="see below (default: auto)")
    add("--face-model", type=Path, metavar="FILE", help="another YuNet model, as ONNX")
    sampling = parser.add_mutually_exclusive_group()
    sampling.add_argument(
        "--every",
        type=at_least_one,
        metavar="N",
        help="judge each N-th frame of videos (default: 1, but see --frames)",
    )
    sampling.add_argument(
        "--frames",
        type=at_least_one,
        metavar="N",
        help="judge N evenly spaced frames of each video (default where some are in folders "
        "or listed by -: "
        f"{_FRAMES_OF_MANY})",
    )
    sampling.add_argument(
        "--keyframes",
        action="store_true",
        help="judge the keyframes of each video alone: fast, since no other frame is decoded; how "
        "many there are is up to who made it",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"new directory for {JSON}, {LINES}, {TABLE}, {SUMMARY}, {REPORT}, masks, overlays "
        "and timelines",
    )
    add("--overwrite", action="store_true", help="replace results that stand in DIR")
    add("--no-overlays", action="store_true", help="write masks, but no overlays")
    add_threshold(parser)
    add(
        "--mask-threshold",
        type=between_0_and_1,
        metavar="T",
        help="mark pixels whose probability of being MANIPULATED is above T (default: where it "
        "is the likelier class, as published)",
    )
    add("--save-logits", action="store_true", help="write the mask head's output too; see below")
    add(
        "--max-megapixels",
        type=at_least_one,
        default=MAX_PIXELS // 10**6,
        metavar="N",
        help="refuse larger pictures; JPEG is reduced to this size instead (default: 100)",
    )
    add(
        "--batch-size",
        type=at_least_one,
        metavar="N",
        help="faces that a device judges at once (default: 2 to 8 on a CPU, by the size of "
        "the network's maps, and 64 on a GPU or TPU)",
    )
    add(
        "--workers",
        type=at_least_zero,
        metavar="N",
        help="processes that read files, look for faces and draw; 0: this one, which a file may "
        "kill (default: one a processor, for few files 0). Results do not depend on it",
    )
    add(
        "--ray",
        metavar="ADDRESS",
        help="work on the machines of a Ray cluster, such as 10.0.0.1:6379, which share all files; "
        "auto is the cluster of this machine, or a new one of this machine alone. Its GPUs or TPUs "
        "judge, or else its CPUs",
    )
    add(
        "--devices",
        default="all",
        metavar="D",
        help="all, how many, or which, such as 0,2 (default: all)",
    )
    add(
        "--dtype",
        choices=DTYPES,
        default=DTYPES[0],
        help="of convolutions; bfloat16 is faster on GPUs and TPUs (default: float32)",
    )
    add(
        "--shard",
        type=shard,
        default=WHOLE,
        metavar="I/N",
        help="judge the I-th of N parts of the files, such as 2/8: each on its own machine, into "
        "its own DIR (default: 1/1)",
    )
    add("--json", action="store_true", help="print one JSON object per file only")
    return parser


def check(args: argparse.Namespace) -> None:
    """Checks everything that takes no time.

    Raises:
        InputError: options contradict each other, the checkpoint cannot serve them, or something
            stands where the results are to go.
    """
    if args.out is not None:
        _check_out(args.out, overwrite=args.overwrite)
    if args.faces == "none" and args.face_model is not None:
        raise InputError("--face-model: --faces none does not look for faces; leave out one")
    if args.ray is not None:
        require("ray")
        if args.workers == 0:
            raise InputError("--workers: with --ray, other processes read; give at least 1")
        if args.devices != "all":
            raise InputError(
                "--devices: with --ray, all GPUs or TPUs judge that the cluster has; leave this "
                "out, and give the cluster fewer (ray start --num-gpus)"
            )
    if args.save_logits and args.out is None:
        raise InputError("--save-logits: name a directory for them with --out")
    if (args.overwrite or args.no_overlays) and args.out is None:
        name = "--overwrite" if args.overwrite else "--no-overlays"
        raise InputError(f"{name}: this is about results in a directory; name one with --out")
    if not metadata.is_checkpoint(args.checkpoint):
        for path in args.path:
            if os.path.isdir(path) and metadata.is_checkpoint(path):  # noqa: PTH112
                raise InputError(
                    f"{args.checkpoint} is not a checkpoint, and {path} is one; name it first"
                )
    given = {"--mask-threshold": args.mask_threshold is not None, "--save-logits": args.save_logits}
    if any(given.values()) and not metadata.load_config(args.checkpoint).has_mask_head:
        names = " and ".join(name for name, is_given in given.items() if is_given)
        raise InputError(
            f"{names}: {args.checkpoint} has no mask head, so it marks no pixels; leave this out "
            "or name another checkpoint"
        )


def _check_out(out: Path, *, overwrite: bool) -> None:
    """Raises InputError: `out` holds results, or anything else."""
    if not out.is_dir():
        if os.path.lexists(out):
            raise InputError(f"{out} exists already; remove it, or name another place")
        return
    if may_be_replaced(out) and not overwrite:
        raise InputError(
            f"{out} exists already and holds results; give --overwrite to replace them, or name "
            "another directory"
        )
    if overwrite and (found := others(out)):
        raise InputError(
            f"{out} holds {shown(found[0])}, which is not a result of this command, and is not "
            "overwritten; name another directory"
        )
    if not may_be_replaced(out):
        raise InputError(f"{out} exists already; remove it, or name another place")


def named_paths(given: Sequence[Path]) -> list[Path]:
    """The given paths; `-` is replaced by the paths on standard input."""
    paths = []
    for path in given:
        if path == Path("-"):
            listed = b"" if sys.stdin is None else sys.stdin.buffer.read()  # None: it is closed
            start = listed[:4096]
            # Names such as P1010023.JPG begin as some format does, but have no such characters.
            is_binary = re.search(rb"[\x01-\x08\x0b\x0c\x0e-\x1f]", start)
            is_video = container(start) is not None
            if is_binary and (is_video or is_picture(start)):
                what = "a video" if is_video and not is_picture(start) else "a picture"
                raise InputError(
                    f"standard input holds {what}; `-` reads paths from it, one a line. Save it to "
                    "a file and name that"
                )
            ends = b"\0" if b"\0" in listed else b"\n"  # as of find -print0
            lines = listed.replace(b"\r\n", b"\n").split(ends)
            paths += [Path(os.fsdecode(line)) for line in lines if line.strip()]
        else:
            paths.append(path)
    if not paths:
        raise InputError("standard input names no file")
    return paths


def sampling_of(args: argparse.Namespace, found: Iterable[Item]) -> Sampling:
    """Which frames are judged: of videos in folders and lists, a few are enough."""
    named = set(args.path)
    is_chosen = args.every is not None or args.frames is not None or args.keyframes
    if is_chosen or not any(one.kind == "video" and one.path not in named for one in found):
        return Sampling(args.every or 1, args.frames, args.keyframes)
    print(
        f"note: of each video {_FRAMES_OF_MANY} evenly spaced frames are judged, since some are in "
        "folders or listed; --every 1 judges all",
        file=sys.stderr,
    )
    return Sampling(frames=_FRAMES_OF_MANY)
