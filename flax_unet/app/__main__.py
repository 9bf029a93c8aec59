"""Serves a page that detects forged faces in pictures and videos."""

import argparse
import re
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from flax_unet.utils.arguments import add_threshold, at_least_one, program_name
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError, command, require

_EPILOG = """\
The page shows the verdict in a sentence and how sure the program is, the picture with what looks
altered, and of a video each person with their timeline. All results can be downloaded: they are the
files that `python -m flax_unet.predict --out` writes. Files are judged one at a time, those of all
visitors in turn, and of a video {frames:,} frames at most. Of a picture or a frame, the {at_once}
largest faces are judged, and of a video {faces:,} faces.

Files are sent to this machine, from whichever device opens the page, and no further. The page needs
no internet and makes no call there. Files and results lie in a temporary directory. They are
deleted when their page is closed or reloaded, or has no connection for five minutes, or the visitor
removes them, and after six hours at the latest; the command deletes the directory at its end.

By default only this machine can open the page. With another --host, and behind a proxy, it asks
for a password: --auth-file names a file with a line user:password for each who may use it. Browsers
send passwords as they are: use a proxy with https where others share the network. --no-auth lets in
everyone who reaches the address.

Behind a proxy, name the addresses that visitors type: --allowed-host faces.example.org, and where
the page is not at the root of its host also --root-path /faces, which the proxy removes. If the
proxy runs on another machine or in a container of its own, set the environment variable
FORWARDED_ALLOW_IPS to its address, or the limits hold for all visitors together.
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
    from flax_unet.app.judge import MOST_AT_ONCE, MOST_FRAMES, MOST_JUDGED
    from flax_unet.app.limits import VISITOR_FILES, VISITOR_MEGABYTES

    parser = argparse.ArgumentParser(
        prog=program_name("flax_unet.app"),
        description=__doc__,
        epilog=_EPILOG.format(frames=MOST_FRAMES, at_once=MOST_AT_ONCE, faces=MOST_JUDGED),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="directory that convert.from_torch wrote")
    add(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 opens the page to the network and needs --auth-file "
        "or --no-auth (default: 127.0.0.1)",
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
        "--visitor-files",
        type=at_least_one,
        default=VISITOR_FILES,
        metavar="N",
        help=f"most files of a visitor in an hour (default: {VISITOR_FILES}). A visitor is a user "
        "of --auth-file, or else an address",
    )
    add(
        "--visitor-upload",
        type=at_least_one,
        default=VISITOR_MEGABYTES,
        metavar="MB",
        help=f"most that a visitor sends in an hour (default: {VISITOR_MEGABYTES})",
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--auth-file",
        type=Path,
        metavar="FILE",
        help="the page asks for a password: a text in UTF-8 with a line user:password for each "
        "user. The first colon separates them. Empty lines and lines that begin with # are "
        "skipped. Only you should be able to read it: chmod 600 FILE",
    )
    who.add_argument(
        "--no-auth",
        action="store_true",
        help="everyone who reaches the address may use the page. With another --host, "
        "--allowed-host or --root-path, this or --auth-file is needed",
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
        "all below; may be repeated (default: none if only this machine opens the page, else any)",
    )
    add_threshold(parser)
    add("--face-model", type=Path, metavar="FILE", help="another YuNet model, as ONNX")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    keep_compiled()
    require("starlette", "uvicorn")
    from flax_unet.app import auth, page
    from flax_unet.app.judge import Judge

    opened = [
        *([] if auth.is_this_machine(args.host) else [f"--host {args.host}"]),
        *(f"--allowed-host {name}" for name in args.allowed_host),
        *([] if args.root_path is None else [f"--root-path {args.root_path or '/'}"]),
    ]
    if opened and not (args.auth_file or args.no_auth):
        raise InputError(
            f"{opened[0]} opens the page to others: name a file of passwords by --auth-file FILE, "
            "or let everyone in by --no-auth"
        )
    users = args.auth_file and auth.read_passwords(args.auth_file)
    limits = page.Limits(args.max_upload * 2**20, args.visitor_files, args.visitor_upload * 2**20)
    with tempfile.TemporaryDirectory(prefix="flax_unet.", ignore_cleanup_errors=True) as folder:
        judge = Judge(args.checkpoint, args.face_model, args.threshold)
        place = page.Place(args.host, args.port, args.root_path, args.allowed_host)
        with page.serve(judge, Path(folder), place, limits, users) as address:
            print(f"{address}  (Ctrl-C ends it)", flush=True)
            threading.Event().wait()


if __name__ == "__main__":
    main()
