"""The time and the peak memory of `convert.from_torch`, on a full-size stand-in of ynet-224.

Each conversion is a process of its own, as a user starts it: Python's start is in the figures.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from flax_unet.utils.errors import InputError, command

_LAYOUT = "ynet-224"
_KIB, _MIB = 2**10, 2**20
_SILENT = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
_OPTIONS = {  # of the conversion, by what it is called here
    "without comparing": ["--no-verify"],
    "compared with PyTorch": [],
    "compared again, with what the first one compiled": [],
}


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convert", description=__doc__)
    parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ckpt.pth"
        # Not by this process: what it starts would count its memory as their own.
        writer = [sys.executable, "-m", "convert.stand_in", _LAYOUT, str(file)]
        subprocess.run(writer, check=True, stdout=subprocess.DEVNULL)
        environment = os.environ | {"XDG_CACHE_HOME": f"{folder}/cache"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        conversions = {}
        for name, options in _OPTIONS.items():
            line = ["-m", "convert.from_torch", str(file), "--out", f"{folder}/out", "--overwrite"]
            words = [sys.executable, *line, *options]
            start = time.perf_counter()
            process = os.posix_spawn(sys.executable, words, environment, file_actions=_SILENT)
            _, status, used = os.wait4(process, 0)
            if status:
                raise InputError(f"{' '.join(line)} failed; its message is above")
            conversions[name] = {
                "seconds": round(time.perf_counter() - start, 1),
                "peak_memory_mib": round(used.ru_maxrss * _KIB / _MIB),
            }
        result = {"file_mib": round(file.stat().st_size / _MIB, 1), "conversions": conversions}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
