"""What training costs besides computing: waiting for data, memory, compiling again.

The full-size network shows the waiting, a narrow one that memory stays flat over many steps. Of
compilations those count that come after the first logged step.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.machine import GIB, benchmark, compilations, peak_memory, report
from flax_unet.utils.errors import InputError
from train.data.dataset import EMBEDDED, open_dataset
from train.data.export import export
from train.fit import __main__ as fit
from train.fit.tracking import Tracker
from train.options import flag

_FRAMES = 256  # pictures and forgeries of them, seen again and again


@benchmark(
    steps=(500, "of training"),
    base_width=(8, "channels of the first level; the full size is 64"),
    size=(64, "pixels a side"),
    batch_size=(32, "pictures a step"),
    log_every=(10, "steps between looks"),
)
def main(**asked: int) -> None:
    """Runs the command line."""
    steps = asked["steps"]
    chosen = {"save_every": steps, **asked}
    words = [f"{flag(name)}={value}" for name, value in chosen.items()]
    lines: list[dict[str, Any]] = []  # of the log, with peak memory and compilations at the time
    log, events = Tracker.log, compilations()

    def look(tracker: Tracker, file: str, metrics: dict[str, Any]) -> None:
        log(tracker, file, metrics)
        lines.append({**metrics, "peak": peak_memory() / GIB, "compiled": len(events)})

    with tempfile.TemporaryDirectory() as directory:
        workdir, data = Path(directory) / "run", Path(directory) / "data"
        frames = open_dataset(EMBEDDED, "train").sample(_FRAMES, 0)
        export(frames, data)  # without a split to validate on, which takes time of its own
        with mock.patch.object(Tracker, "log", look):
            fit.main(["--workdir", str(workdir), "--data", str(data), *words])
    during = {line["step"]: line for line in lines if line["step"] < steps}
    if not during:
        raise InputError(f"--steps {steps}: training ended before its first look; give more")
    wanted = {min(during, key=lambda s, f=f: abs(s - f * steps)) for f in (0.2, 0.4, 0.6, 0.8)}
    marks = sorted({min(during), *wanted, max(during)})
    first, last = during[marks[0]], during[marks[-1]]
    result = {
        "images_a_second": statistics.median(line["images_per_second"] for line in lines[1:]),
        "share_waiting_for_data": statistics.mean(line["data_wait"] for line in lines[1:]),
        "peak_memory_gib_after_step": {step: round(during[step]["peak"], 3) for step in marks},
        "compilations_after_the_first_logged_step": last["compiled"] - first["compiled"],
    }
    report({**asked, **result})


if __name__ == "__main__":
    main()
