"""The memory of evaluation: the peak after 500, 2,500 and 5,000 frames of one run.

A narrow network will do: what could grow with the frames is what is read and what is kept of each,
and neither depends on the network's width.
"""

import argparse
import dataclasses
import json
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks.machine import peak_memory
from benchmarks.subject import prepare
from flax_unet.utils.errors import InputError, command
from train.eval.scoring import score

FRAMES = (500, 2500, 5000)


class Watched(Sequence[dict[str, Any]]):
    """Records that note the process's peak memory when so many of them have been read."""

    def __init__(self, records: Sequence[dict[str, Any]], marks: Sequence[int]) -> None:
        self._records, self._marks = records, frozenset(marks)
        self._read, self._lock = 0, threading.Lock()  # threads read
        self.peaks: dict[int, float] = {}  # GiB, by the number of frames read

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        record = self._records[index]
        with self._lock:
            self._read += 1
            if self._read in self._marks:
                self.peaks[self._read] = peak_memory()
        return record


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--frames", type=int, nargs="+", default=FRAMES, help="when to look; all are of one run"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="frames a step")
    parser.add_argument("--base-width", type=int, default=8, help="the full size: 64")
    args = parser.parse_args(argv)
    if min(args.frames) < 1:
        raise InputError(f"--frames {min(args.frames)}: expected at least 1")
    with tempfile.TemporaryDirectory() as directory:
        subject = prepare(Path(directory), args.base_width, max(args.frames))
        records = Watched(subject.data.records, args.frames)
        data = dataclasses.replace(subject.data, records=records)
        score(subject.model, data, jax.local_devices(), args.batch_size)
    result = {
        "base_width": args.base_width,
        "batch_size": args.batch_size,
        "peak_memory_gib_after_frames": {
            n: round(records.peaks[n], 3) for n in sorted(args.frames)
        },
        "peak_memory_gib_at_the_end": round(peak_memory(), 3),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
