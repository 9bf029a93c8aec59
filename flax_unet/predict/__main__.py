"""Detects forged faces in pictures and videos and marks the manipulated pixels."""

import argparse
import contextlib
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from flax_unet.checkpoint import metadata
from flax_unet.media.discover import items
from flax_unet.media.faces import MIN_FACE, FaceFinder, Mode
from flax_unet.media.videos import Sampling
from flax_unet.nn.decision import POLARITY
from flax_unet.predict import writer
from flax_unet.predict.pipeline import Inspected, InspectedFrame, Options, inspect
from flax_unet.predict.results import FaceResult, FileResult, VideoResult
from flax_unet.utils.arguments import at_least_one, between_0_and_1, program_name
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError, command, counted
from flax_unet.utils.filenames import shown
from flax_unet.utils.files import staged_directory

_EPILOG = f"""\
Faces are brought to the network's size as the published evaluation does (PIL, NEAREST, divided by
255). {POLARITY}

--faces auto cuts out each face with a third of its size around it, or judges the whole picture if
one face fills it; crop always cuts; none judges every picture as the crop of one face. Faces under
{MIN_FACE} pixels are reported, not judged. A picture has the verdict of the face that is most
likely FAKE; a video has the mean probability of its frames.

--out DIR gets, for each picture X with a face, X.mask.png at the picture's size. --save-logits adds
X.logits.npy for pictures and videos: float32 (faces, H, W, 2) on the network's grid over each
face's box, class 0 untouched, class 1 MANIPULATED, faces in the order of {writer.JSON}.

In folders, hidden files and links to other folders are left out.

Exit status: 0 everything was judged, whatever was found; 1 some files failed; 2 all did. A video
that is cut short counts as failed; what could be read of it is judged.
"""


def _line(result: FileResult) -> str:
    """A result for people."""
    faces = [] if isinstance(result, VideoResult) else result.faces
    parts = []
    if result.problem is not None:
        parts.append("failed: " + result.problem.removeprefix(f"{result.file} "))
    parts += _in_words(faces[0] if len(faces) == 1 else result)
    if len(faces) > 1:
        parts.append(f"{len(faces)} faces")
    if isinstance(result, VideoResult) and (judged := result.frames_judged):
        parts.append(f"mean of {counted(judged, 'frame')}")
    lines = [f"{result.file}:  {'  '.join(parts) or 'no face to judge'}"]
    if len(faces) > 1:
        lines += [f"face at {tuple(face.box)}:  {'  '.join(_in_words(face))}" for face in faces]
    return "\n  ".join([*lines, *(f"note: {note}" for note in result.notes)])


def _in_words(result: FaceResult | FileResult) -> Iterator[str]:
    decision, share = result.decision, result.manipulated_share
    if decision.verdict is not None:
        real, fake = decision.real_probability, decision.fake_probability
        yield f"{decision.verdict}  (real {real:.4f}, fake {fake:.4f})"
    if share is not None:
        yield f"{share:.2%} of the pixels marked manipulated"


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


def _paths(given: Sequence[Path]) -> list[Path]:
    """The given paths; `-` is replaced by the paths on standard input."""
    paths = []
    for path in given:
        if path == Path("-"):
            listed = sys.stdin.buffer.read()
            ends = b"\0" if b"\0" in listed else b"\n"  # as of find -print0
            lines = listed.replace(b"\r\n", b"\n").split(ends)
            paths += [Path(os.fsdecode(line)) for line in lines if line.strip()]
        else:
            paths.append(path)
    if not paths:
        raise InputError("standard input names no file")
    return paths


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
        default=1,
        metavar="N",
        help="judge each N-th frame of videos (default: 1)",
    )
    sampling.add_argument(
        "--frames",
        type=at_least_one,
        metavar="N",
        help="judge N evenly spaced frames of each video",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"new directory for {writer.JSON}, {writer.TABLE}, masks and overlays",
    )
    add(
        "--mask-threshold",
        type=between_0_and_1,
        metavar="T",
        help="mark pixels whose probability of being MANIPULATED is above T (default: where it "
        "is the likelier class, as published)",
    )
    add("--save-logits", action="store_true", help="write the mask head's output too; see below")
    add("--json", action="store_true", help="print one JSON object per file only")
    return parser


def _check(args: argparse.Namespace) -> None:
    """Raises InputError: options contradict each other or the network lacks a mask head."""
    if args.faces == "none" and args.face_model is not None:
        raise InputError("--face-model: --faces none does not look for faces; leave out one")
    if args.save_logits and args.out is None:
        raise InputError("--save-logits: name a directory for them with --out")
    given = {"--mask-threshold": args.mask_threshold is not None, "--save-logits": args.save_logits}
    if any(given.values()) and not metadata.load_config(args.checkpoint).has_mask_head:
        names = " and ".join(name for name, is_given in given.items() if is_given)
        raise InputError(
            f"{names}: {args.checkpoint} has no mask head, so it marks no pixels; leave this out "
            "or name another checkpoint"
        )


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    from flax_unet.detector import Detector  # needs JAX, which takes seconds to import

    keep_compiled()
    if isinstance(sys.stdout, io.TextIOWrapper):  # it may lack letters of a file's name
        sys.stdout.reconfigure(errors="backslashreplace")
    found: list[FileResult] = []
    statuses: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        stage = None if args.out is None else stack.enter_context(staged_directory(args.out))
        _check(args)
        detector = Detector.from_checkpoint(
            args.checkpoint, mask_threshold=args.mask_threshold, keep_logits=args.save_logits
        )
        finder = None if args.faces == "none" else FaceFinder(args.face_model)
        options = Options(args.faces, finder, Sampling(args.every, args.frames))
        inspected = _with_bar(inspect(detector, items(_paths(args.path)), options))
        stack.enter_context(contextlib.closing(inspected))
        for result in writer.file_results(inspected, stage):
            statuses[result.status] += 1
            with tqdm.external_write_mode():
                print(json.dumps(result.to_json()) if args.json else _line(result), flush=True)
            if stage is not None:
                found.append(result)
        if stage is not None:
            writer.write_predictions(stage, found, args.checkpoint, detector, options)
    if args.out is not None and not args.json:
        masks = "masks, logits" if args.save_logits else "masks"
        print(f"{shown(str(args.out))}: {writer.JSON}, {writer.TABLE}, {masks} and overlays")
    if statuses["failed"] == statuses.total():
        raise InputError("every file failed; the reasons are above")
    if statuses["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
