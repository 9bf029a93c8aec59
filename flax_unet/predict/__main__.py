"""Detects forged faces in pictures and videos and marks the manipulated pixels."""

import argparse
import contextlib
import io
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, get_args

from tqdm import tqdm

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.provenance import file_sha256, made_by
from flax_unet.media.discover import Item, LeftOut, items
from flax_unet.media.faces import MIN_FACE, FaceFinder, Mode, OpenCV
from flax_unet.media.images import MAX_PIXELS, is_picture
from flax_unet.media.videos import Sampling, container
from flax_unet.nn.config import DTYPES
from flax_unet.nn.decision import POLARITY
from flax_unet.predict.cluster import described, judged_on_cluster
from flax_unet.predict.journal import journal
from flax_unet.predict.pipeline import Inspected, InspectedFrame, Options, inspect
from flax_unet.predict.plan import WHOLE, Plan, Shard, left, plan
from flax_unet.predict.predictions import (
    JSON,
    LINES,
    TABLE,
    head_of,
    may_be_replaced,
    options_of,
    others,
    write_predictions,
)
from flax_unet.predict.report import REPORT, write_report
from flax_unet.predict.results import ENOUGH_FRAMES, ENOUGH_SHARE, FileResult
from flax_unet.predict.summary import Summary
from flax_unet.predict.work import Network, Setup
from flax_unet.predict.workers import Search, judged_in_processes
from flax_unet.predict.writer import file_results
from flax_unet.utils.arguments import at_least_one, between_0_and_1, program_name
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.cluster import connected
from flax_unet.utils.errors import InputError, command, require
from flax_unet.utils.filenames import shown
from flax_unet.utils.processes import processors

if TYPE_CHECKING:
    from flax_unet.detector import Detector

_FRAMES_OF_MANY = 32  # of a video in a folder
_PICTURES_EACH = 32  # are worth a process's start, as one video is

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

Exit status: 0 everything was judged, whatever was found; 1 some files failed; 2 all did, and DIR is
not written. A video that is cut short counts as failed; what could be read of it is judged.
"""


def _with_bar(inspected: Iterable[Inspected]) -> Generator[Inspected]:
    """Passes everything on and counts the frames by a progress bar."""
    number = None
    with tqdm(unit="frame", disable=None) as bar:
        for one in inspected:
            if one.number != number:
                number = one.number
                expected = one.expected if isinstance(one, InspectedFrame) else None
                bar.total = None if expected is None else bar.n + expected
                bar.set_postfix_str(shown(one.item.path.name)[-30:], refresh=False)
            bar.update(isinstance(one, InspectedFrame))
            yield one


def _workers_for(plan: Plan) -> int:
    """How many processes are worth their start."""
    videos = _videos(plan)
    pictures = sum(map(len, plan)) - videos
    return max(min(videos + pictures // _PICTURES_EACH, processors()), 1)


def _videos(plan: Plan) -> int:
    return sum(lot[0].item.kind == "video" for lot in plan)


def _paths(given: Sequence[Path]) -> list[Path]:
    """The given paths; `-` is replaced by the paths on standard input."""
    paths = []
    for path in given:
        if path == Path("-"):
            listed = sys.stdin.buffer.read()
            start = listed[:4096]
            if (is_video := container(start) is not None) or is_picture(start):
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


def _shard(text: str) -> Shard:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part of the work, such as 2/8")
    return Shard(int(part), int(parts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("flax_unet.predict"),
        description=__doc__,
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
        help="judge N evenly spaced frames of each video (default where some are in folders: "
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
        help=f"new directory for {JSON}, {TABLE}, masks and overlays",
    )
    add("--overwrite", action="store_true", help="replace results that stand in DIR")
    add("--no-overlays", action="store_true", help="write masks, but no overlays")
    add(
        "--threshold",
        type=between_0_and_1,
        metavar="T",
        help="a face is FAKE from this probability of FAKE on, the calibrated one where the "
        "checkpoint has a calibration (default: its threshold, else 0.5, as published)",
    )
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
        help="faces that a device judges at once (default: 8 on a CPU, 64 on a GPU or TPU)",
    )
    add(
        "--workers",
        type=at_least_one,
        metavar="N",
        help="processes that read files, look for faces and draw; 1: this one (default: one a "
        "processor, fewer for few files). Results do not depend on it",
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
        type=_shard,
        default=WHOLE,
        metavar="I/N",
        help="judge the I-th of N parts of the files, such as 2/8: each on its own machine, into "
        "its own DIR (default: 1/1)",
    )
    add("--json", action="store_true", help="print one JSON object per file only")
    return parser


def _check(args: argparse.Namespace) -> None:
    """Raises InputError: options contradict each other, or the checkpoint cannot serve them."""
    if args.faces == "none" and args.face_model is not None:
        raise InputError("--face-model: --faces none does not look for faces; leave out one")
    if args.ray is not None:
        require("ray")
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
    """Raises an InputError if `out` holds results, or anything else."""
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


def _sampling(args: argparse.Namespace, paths: Iterable[Path], found: Iterable[Item]) -> Sampling:
    """Which frames are judged: of videos in folders, a few are enough."""
    named = set(paths)
    is_chosen = args.every is not None or args.frames is not None or args.keyframes
    if is_chosen or not any(one.kind == "video" and one.path not in named for one in found):
        return Sampling(args.every or 1, args.frames, args.keyframes)
    print(
        f"note: of each video {_FRAMES_OF_MANY} evenly spaced frames are judged, since some are in "
        "folders; --every 1 judges all",
        file=sys.stderr,
    )
    return Sampling(frames=_FRAMES_OF_MANY)


def _network(args: argparse.Namespace) -> Network:
    return Network(
        args.checkpoint, args.dtype, args.threshold, args.mask_threshold, args.save_logits
    )


def _run(args: argparse.Namespace, detector: "Detector", options: Options) -> dict[str, Any]:
    """What results depend on, and may not change while a run is unfinished."""
    from flax_unet.checkpoint import store

    made = made_by()
    return {
        "weights": store.fingerprint(args.checkpoint)["weights_sha256"],
        **options_of(detector, options),
        "face_model": None if args.face_model is None else file_sha256(args.face_model),
        "max_megapixels": args.max_megapixels,
        "batch_size": detector.batch_size,
        "overlays": not args.no_overlays,
        "shard": str(args.shard),
        "code_sha256": made["code_sha256"],
        "versions": made["versions"],
    }


def _results(
    args: argparse.Namespace,
    files: Plan,
    detector: "Detector",
    options: Options,
    search: Search | None,
    directory: Path | None,
) -> Generator[FileResult]:
    """The results of files, with a progress bar."""
    overlays = not args.no_overlays
    workers = args.workers or _workers_for(files)
    if args.ray is not None or (workers > 1 and files):
        setup = Setup(
            size=detector.size,
            batch_size=detector.batch_size,
            threshold=detector.threshold,
            calibration=detector.calibration,
            mode=args.faces,
            face_model=args.face_model,
            sampling=options.sampling,
            picture_pixels=options.picture_pixels,
            more_pixels=options.more_pixels,
            directory=directory,
            overlays=overlays,
        )
        if args.ray is not None:
            found = judged_on_cluster(files, setup, _network(args), args.workers)
        else:
            found = judged_in_processes(detector, files, setup, min(workers, len(files)), search)
        with contextlib.closing(found):
            total = sum(map(len, files))
            yield from tqdm(found, total=total, unit="file", disable=None)
        return
    given = ([file.item for file in lot] for lot in files)
    inspected = _with_bar(inspect(detector, given, options))
    with contextlib.closing(inspected):
        stems = (file.stem for lot in files for file in lot)
        yield from file_results(inspected, directory, overlays=overlays, stems=stems)


def _print_summary(summary: Summary, left_out: LeftOut, file: TextIO | None) -> None:
    """Prints what became of the files, unless there is one only."""
    if summary.files + summary.left_out > 1:
        print(summary, file=file)
    if summary.left_out:
        print(f"left out: {left_out}", file=file)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    from flax_unet.face_network import network_for  # needs JAX, which takes seconds to import

    keep_compiled()
    if isinstance(sys.stdout, io.TextIOWrapper):  # it may lack letters of a file's name
        sys.stdout.reconfigure(errors="backslashreplace")
    if args.out is not None:
        _check_out(args.out, overwrite=args.overwrite)
    _check(args)
    with contextlib.ExitStack() as stack:
        if args.ray is None:
            detector = _network(args).load(args.devices, args.batch_size)
        else:
            stack.enter_context(connected(args.ray, args.workers))
            detector = described(_network(args), args.batch_size)
        finder = search = None
        if args.faces != "none":
            network = network_for(detector.devices[0], args.face_model)
            finder = FaceFinder(network)
            search = None if isinstance(network, OpenCV) else network.all_of
        paths, left_out = _paths(args.path), LeftOut()
        found = list(items(paths, left_out))
        sampling = _sampling(args, paths, found)
        pixels = args.max_megapixels * 10**6
        options = Options(args.faces, finder, sampling, pixels, "raise --max-megapixels")
        files = plan(found, detector.batch_size, args.shard)
        outcomes: Counter[str] = Counter()
        kept, total = None, sum(map(len, files))
        if args.out is not None:
            run = _run(args, detector, options)
            kept = stack.enter_context(journal(args.out, run, may_be_replaced))
            files, outcomes = left(files, kept.names), kept.outcomes.copy()
            if kept.names:
                print(f"{len(kept.names):,} of {total:,} files are done already", file=sys.stderr)
        directory = None if kept is None else kept.directory
        results = _results(args, files, detector, options, search, directory)
        stack.enter_context(contextlib.closing(results))
        # Of a lot that is done in part, all is judged again.
        again = sum(map(len, files)) - (total - outcomes.total())
        for result in itertools.islice(results, again, None):
            if kept is not None:
                kept.add(result)
            outcomes[result.outcome] += 1
            with tqdm.external_write_mode():
                print(json.dumps(result.to_json()) if args.json else result, flush=True)
        summary = Summary.of(outcomes, left_out)
        _print_summary(summary, left_out, sys.stderr if args.json else None)
        if not files and not total:
            print(f"note: part {args.shard} of the work has no file", file=sys.stderr)
        elif outcomes["failed"] == outcomes.total():
            if kept is not None:
                kept.discard()
            raise InputError("every file failed; the reasons are above")
        if kept is not None:
            head = head_of(args.checkpoint, detector, options)
            of_files = summary.to_json(), left_out.to_json()
            write_predictions(kept.directory, kept.entries(), head, *of_files)
            write_report(
                kept.directory,
                kept.entries(),
                checkpoint=shown(args.checkpoint.resolve().name),
                worth=detector.worth.sentence,
                threshold=detector.threshold,
                summary=summary,
            )
    if args.out is not None and not args.json:
        kinds = ["masks", *["overlays"] * (not args.no_overlays), *["logits"] * args.save_logits]
        print(f"{shown(str(args.out))}: {', '.join([JSON, LINES, TABLE, REPORT, *kinds])}")
    print(f"note: {detector.worth.sentence}", file=sys.stderr)
    if outcomes["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
