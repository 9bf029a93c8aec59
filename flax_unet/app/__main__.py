"""Serves a page on which pictures and videos are judged: drop one, see what is forged in it."""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flax_unet.app.judge import MOST_FRAMES, Judge
from flax_unet.utils.arguments import at_least_one, program_name
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import command

_EPILOG = f"""\
The page shows the verdict with its probabilities, a heat map of the manipulated pixels over the
picture, each face, and of a video the overlay video and the timeline; all results can be
downloaded as the files that `python -m flax_unet.predict --out` writes. It is for a few visitors:
one file at a time is judged, of a video {MOST_FRAMES:,} frames at most.

Nothing leaves this machine. The page needs no internet and makes no call there; what was uploaded
and found lies in a temporary directory, for six hours, and no longer than the command runs.
Whoever can reach the address can use the page: there is no password. Unless told otherwise that is
this machine alone.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("flax_unet.app"),
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="directory that convert.from_torch wrote")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 opens the page to the network (default: 127.0.0.1)",
    )
    parser.add_argument("--port", type=int, default=7860, help="likewise (default: 7860)")
    parser.add_argument(
        "--max-upload",
        type=at_least_one,
        default=200,
        metavar="MB",
        help="the largest file that is taken (default: 200)",
    )
    parser.add_argument(
        "--face-model", type=Path, metavar="FILE", help="another YuNet model, as ONNX"
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    keep_compiled()
    with tempfile.TemporaryDirectory(prefix="flax_unet.", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # is read when Gradio is imported, which is
        from flax_unet.app import page  # not before: it needs the extra, and --help does not

        judge = Judge(args.checkpoint, args.face_model)
        page.serve(judge, Path(folder), args.host, args.port, args.max_upload * 2**20)


if __name__ == "__main__":
    main()
