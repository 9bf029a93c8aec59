"""Says of faces in pictures and videos whether they are REAL or FAKE, and which pixels are not."""

import argparse
import contextlib
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from flax_unet.checkpoint import metadata
from flax_unet.media.discover import items
from flax_unet.media.faces import MIN_FACE, FaceFinder, Mode
from flax_unet.media.videos import Sampling
from flax_unet.predict import writer
from flax_unet.predict.pipeline import Frame, Options, inspect
from flax_unet.predict.results import Result, results
from flax_unet.utils.arguments import at_least_one, between_0_and_1, program_name
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.filenames import shown
from flax_unet.utils.files import staged_directory

_EPILOG = f"""\
Faces are brought to the network's size as the published evaluation does (PIL, NEAREST, divided by
255). Probabilities: the classifier's 1 is REAL. Masks: 1 is MANIPULATED.

--faces auto cuts out each face with a third of its size around it, or judges the whole picture if
one face fills it; crop always cuts; none judges every picture as the crop of one face. Faces of
fewer than {MIN_FACE} pixels are told of and not judged. The verdict of a picture is that of its
face which is FAKE most likely; a video's probability is the mean of its frames'.

--out DIR gets, for each picture X with a face, X.mask.png at the picture's size. --save-logits adds
X.logits.npy for pictures and videos: float32 (faces, H, W, 2) on the network's grid over each
face's box, class 0 untouched, class 1 MANIPULATED, faces in the order of {writer.JSON}.

In folders, hidden files and links to other folders are left out.

Exit status: 0 everything was judged, whatever was found; 1 some files failed; 2 all did. A video
that is cut short counts as failed; what could be read of it is judged.
"""


def _line(result: Result) -> str:
    """A result for people."""
    faces = result.get("faces", ())
    parts = []
    if result["problem"] is not None:
        parts.append("failed: " + result["problem"].removeprefix(f"{result['file']} "))
    parts += _verdict(faces[0] if len(faces) == 1 else result)
    if len(faces) > 1:
        parts.append(f"{len(faces)} faces")
    if result.get("frames_judged"):
        parts.append(f"mean of {result['frames_judged']:,} frames")
    lines = [f"{result['file']}:  {'  '.join(parts) or 'no face to judge'}"]
    if len(faces) > 1:
        lines += [f"face at {tuple(f['box'])}:  {'  '.join(_verdict(f))}" for f in faces]
    return "\n  ".join([*lines, *(f"note: {note}" for note in result["notes"])])


def _verdict(of: dict[str, Any]) -> Iterator[str]:
    """What was found of a face or of a video, in words."""
    if of.get("verdict") is not None:
        real, fake = of["real_probability"], of["fake_probability"]
        yield f"{of['verdict']}  (real {real:.4f}, fake {fake:.4f})"
    if of.get("manipulated_share") is not None:
        yield f"{of['manipulated_share']:.2%} of the pixels marked manipulated"


def _shown(frames: Iterable[Frame]) -> Generator[Frame]:
    """The frames, counted by a bar for people who watch."""
    number = None
    with tqdm(unit="frame", disable=None) as bar:
        for frame in frames:
            if frame.number != number:
                number = frame.number
                bar.total = None if frame.expected is None else bar.n + frame.expected
                bar.set_postfix_str(shown(frame.item.path.name)[-30:], refresh=False)
            if frame.image is not None:
                bar.update()
            yield frame


def _paths(named: Sequence[Path]) -> list[Path]:
    """The paths, with those from standard input in the place of `-`."""
    paths = []
    for path in named:
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
    parser.add_argument("checkpoint", type=Path, help="directory that convert.from_torch wrote")
    parser.add_argument(
        "path",
        type=Path,
        nargs="+",
        help="pictures, videos and folders of them; - reads such paths from standard input",
    )
    parser.add_argument(
        "--faces", choices=get_args(Mode), default="auto", help="see below (default: auto)"
    )
    parser.add_argument(
        "--face-model", type=Path, metavar="FILE", help="another YuNet model, as ONNX"
    )
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
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"new directory for {writer.JSON}, {writer.TABLE} and what shows it",
    )
    parser.add_argument(
        "--mask-threshold",
        type=between_0_and_1,
        metavar="T",
        help="mark pixels whose probability of being MANIPULATED is above T (default: those of "
        "which it is the likelier class, as published)",
    )
    parser.add_argument(
        "--save-logits", action="store_true", help="write the mask head's output too; see below"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object a file, no prose")
    return parser


def _check(args: argparse.Namespace) -> None:
    """Raises InputError: options contradict each other or do not suit the network."""
    if args.faces == "none" and args.face_model is not None:
        raise InputError("--face-model: --faces none looks for no faces; leave out one")
    if args.save_logits and args.out is None:
        raise InputError("--save-logits: name a directory for them by --out")
    asked = {"--mask-threshold": args.mask_threshold is not None, "--save-logits": args.save_logits}
    if any(asked.values()) and not metadata.load_config(args.checkpoint).has_mask_head:
        names = " and ".join(name for name, is_asked in asked.items() if is_asked)
        raise InputError(
            f"{names}: {args.checkpoint} has no mask head, so it marks no pixels; leave this out, "
            "or name another checkpoint"
        )


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    from flax_unet.detector import Detector  # needs JAX, which takes seconds to import

    keep_compiled()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may hold what it has no letters for
        sys.stdout.reconfigure(errors="backslashreplace")
    found: list[Result] = []
    statuses: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        stage = None if args.out is None else stack.enter_context(staged_directory(args.out))
        _check(args)
        detector = Detector.from_checkpoint(
            args.checkpoint, mask_threshold=args.mask_threshold, keep_logits=args.save_logits
        )
        finder = None if args.faces == "none" else FaceFinder(args.face_model)
        options = Options(args.faces, finder, Sampling(args.every, args.frames))
        frames = _shown(inspect(detector, items(_paths(args.path)), options))
        for result in results(stack.enter_context(contextlib.closing(frames)), stage):
            statuses[result["status"]] += 1
            with tqdm.external_write_mode():
                print(json.dumps(result) if args.json else _line(result), flush=True)
            if stage is not None:
                found.append(result)
        if stage is not None:
            writer.write(stage, found, args.checkpoint, detector, options)
    if args.out is not None and not args.json:
        masks = "masks, logits" if args.save_logits else "masks"
        out = shown(str(args.out))
        print(f"{out}: {writer.JSON}, {writer.TABLE}, {masks} and overlays")
    if statuses["failed"] == statuses.total():
        raise InputError("every file failed; the reasons are above")
    if statuses["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
