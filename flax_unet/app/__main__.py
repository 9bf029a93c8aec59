"""Serves a page that detects forged faces in pictures and videos."""

import argparse
import os
import re
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from flax_unet.utils.arguments import at_least_one, program_name
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import command

_EPILOG = """\
The page shows the verdict with its probabilities, a heat map of the manipulated pixels over the
picture, each face, and of a video the overlay video and the timeline. All results can be
downloaded: they are the files that `python -m flax_unet.predict --out` writes. The page is for a
few visitors: it judges one file at a time, and of a video {frames:,} frames at most.

Nothing leaves this machine. The page needs no internet and makes no call there. Uploads and results
lie in a temporary directory for six hours at most; the command deletes it at its end. The page
has no password: everyone who reaches its address can use it. By default only this machine can.

Behind a proxy, name the addresses that visitors type: --allowed-host faces.example.org, and where
the page is not at the root of its host also --root-path /faces, which the proxy removes.
"""


def _root_path(text: str) -> str:
    """The path of the page behind a proxy, or its whole address."""
    if text.startswith(("/", "http://", "https://")):
        return text.rstrip("/")
    raise argparse.ArgumentTypeError(f"expected a path such as /faces, or a URL, got {text}")


def _host_name(text: str) -> str:
    """A host's name, or *.NAME for all below it, or * for any."""
    if re.fullmatch(r"\*|(\*\.)?[\w.-]+", text):
        return text
    raise argparse.ArgumentTypeError(
        f"expected a name without scheme and port, such as faces.example.org, got {text}"
    )


def _parser() -> argparse.ArgumentParser:
    # Not at the top: it imports for long, and Ctrl-C there would end in a traceback.
    from flax_unet.app.judge import MOST_FRAMES

    parser = argparse.ArgumentParser(
        prog=program_name("flax_unet.app"),
        description=__doc__,
        epilog=_EPILOG.format(frames=MOST_FRAMES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="directory that convert.from_torch wrote")
    add(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 opens the page to the network (default: 127.0.0.1)",
    )
    add("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    add(
        "--max-upload",
        type=at_least_one,
        default=200,
        metavar="MB",
        help="largest size of a file (default: 200)",
    )
    add(
        "--root-path",
        type=_root_path,
        metavar="PATH",
        help="path of the page behind a proxy, such as /faces, or its whole address",
    )
    add(
        "--allowed-host",
        type=_host_name,
        action="append",
        default=[],
        metavar="NAME",
        help="host name that visitors may type, besides this machine's own; *.example.org allows "
        "all below; may be repeated (default: any with --host 0.0.0.0, otherwise none)",
    )
    add("--face-model", type=Path, metavar="FILE", help="another YuNet model, as ONNX")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    keep_compiled()
    with tempfile.TemporaryDirectory(prefix="flax_unet.", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # read when Gradio is imported, so not earlier;
        from flax_unet.app import page  # --help does not need the extra either
        from flax_unet.app.judge import Judge

        judge = Judge(args.checkpoint, args.face_model)
        place = page.Place(args.host, args.port, args.root_path, args.allowed_host)
        with page.serve(judge, Path(folder), place, args.max_upload * 2**20) as address:
            print(f"{address}  (Ctrl-C ends it)", flush=True)
            threading.Event().wait()


if __name__ == "__main__":
    main()
