"""The time and the peak memory of `convert.from_torch`, on a full-size stand-in.

Each conversion is a process of its own, as a user starts it: Python's start is in the figures.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.subject import FULL_WIDTH, write_model
from flax_unet.errors import InputError, command

_KIB, _MIB = 2**10, 2**20
_SILENT = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]  # to print nothing
_OPTIONS = {  # of the conversion, by what it is called here
    "without comparing": ["--no-verify"],
    "compared with PyTorch": [],
    "compared again, with what the first one compiled": [],
}


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convert", description=__doc__)
    parser.add_argument(
        "--base-width", type=int, default=FULL_WIDTH, help="of the network; the full size is 64"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        file = write_model(Path(folder), args.base_width).parent / "ckpt.pth"
        result = {"file_mib": file.stat().st_size / _MIB, "conversions": {}}
        for name, options in _OPTIONS.items():
            line = ["-m", "convert.from_torch", str(file), "--out", f"{folder}/out", "--overwrite"]
            users = os.environ | {"XDG_CACHE_HOME": f"{folder}/cache"}
            start = time.perf_counter()
            process = os.posix_spawn(
                sys.executable, [sys.executable, *line, *options], users, file_actions=_SILENT
            )
            _, status, used = os.wait4(process, 0)
            if status:
                raise InputError(f"{' '.join(line)} failed; its message is above")
            result["conversions"][name] = {
                "seconds": time.perf_counter() - start,
                "peak_memory_mib": used.ru_maxrss * _KIB / _MIB,
            }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
