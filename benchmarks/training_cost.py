"""What training costs besides computing: waiting for data, memory, compiling again.

The full-size network shows the waiting, a narrow one that memory stays flat over many steps. Of
compilations those count that come after the first logged step.
"""

import argparse
import json
import statistics
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import jax

from benchmarks.machine import peak_memory
from flax_unet.utils.errors import command
from train.data.dataset import EMBEDDED, open_dataset
from train.data.export import export
from train.fit import __main__ as fit
from train.fit.tracking import METRICS, read

_FRAMES = 256  # pictures and forgeries of them, seen again and again
_PERIOD = 0.2  # seconds between looks at the log


class _Watch(threading.Thread):
    """Notes peak memory and compilations as the log of a run grows."""

    def __init__(self, log: Path) -> None:
        super().__init__(daemon=True)
        self._log, self._done = log, threading.Event()
        self.seen: dict[int, tuple[float, int]] = {}  # GiB and compilations, by step
        self._compilations = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, *_: object, **__: object) -> None:
        self._compilations += event.endswith("backend_compile_duration")

    def run(self) -> None:
        while not self._done.wait(_PERIOD):
            if lines := read(self._log):
                self.seen[lines[-1]["step"]] = peak_memory(), self._compilations

    def stop(self) -> None:
        self._done.set()
        self.join()


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_cost",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=500, help="of training")
    parser.add_argument("--base-width", type=int, default=8, help="64 is the full size")
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures a step")
    parser.add_argument("--log-every", type=int, default=10, help="steps between looks")
    args = parser.parse_args(argv)
    options = {
        "--save-every": args.steps,
        **{f"--{name.replace('_', '-')}": value for name, value in vars(args).items()},
    }
    with tempfile.TemporaryDirectory() as directory:
        workdir, data = Path(directory) / "run", Path(directory) / "data"
        frames = open_dataset(EMBEDDED, "train").sample(_FRAMES, 0)
        export(frames, data)  # without a split to validate on, which takes time of its own
        watch = _Watch(workdir / METRICS)
        watch.start()
        words = [str(word) for pair in options.items() for word in pair]
        fit.main(["--workdir", str(workdir), "--data", str(data), *words])
        watch.stop()
        lines = read(workdir / METRICS)
    during = {step: seen for step, seen in watch.seen.items() if step < args.steps}
    wanted = {min(during, key=lambda s, f=f: abs(s - f * args.steps)) for f in (0.2, 0.4, 0.6, 0.8)}
    marks = sorted({min(during), *wanted, max(during)})
    result = {
        "images_a_second": statistics.median(line["images_per_second"] for line in lines[1:]),
        "share_waiting_for_data": statistics.mean(line["data_wait"] for line in lines[1:]),
        "peak_memory_gib_after_step": {step: round(during[step][0], 3) for step in marks},
        "compilations_after_the_first_logged_step": during[marks[-1]][1] - during[marks[0]][1],
    }
    print(json.dumps({**vars(args), **result}, indent=1))


if __name__ == "__main__":
    main()
