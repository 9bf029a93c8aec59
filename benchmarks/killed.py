"""Kills training at random moments, resumes it each time, and compares the end with a calm run's.

Checkpoints are written every second step, so many of the moments fall into their writing. The
final weights, statistics and optimizer state must be the same to the last bit.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.machine import benchmark
from flax_unet.checkpoint import metadata, store
from flax_unet.checkpoint.store import flat
from flax_unet.utils.errors import InputError
from train.data.dataset import EMBEDDED
from train.fit.checkpoints import TRAINING
from train.fit.tracking import METRICS

OPTIONS = (
    *("--batch-size=8", "--size=16", "--base-width=4", "--learning-rate=1e-3", "--log-every=1"),
    *("--save-every=2", "--ema=0.9", "--flip=0.5"),
)


def fit(workdir: Path, data: str, steps: int) -> subprocess.Popen:
    """Starts training in a process of its own; the same call resumes it."""
    chosen = (*OPTIONS, f"--data={data}", f"--steps={steps}", f"--workdir={workdir}")
    line = [sys.executable, "-m", "train.fit", *chosen]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> str:
    """Waits for a run that must end well; what it wrote to stderr."""
    _, messages = process.communicate()
    if process.returncode != 0:
        raise InputError(f"training ended with {process.returncode}:\n{messages}")
    return messages


def kill_at_random(workdir: Path, data: str, steps: int, rng: random.Random) -> bool:
    """Starts or resumes training and kills it some steps later; whether it was still running."""
    process = fit(workdir, data, steps)
    log = workdir / METRICS
    before = None
    wanted = rng.randint(1, 4)
    while process.poll() is None:
        lines = log.read_bytes().count(b"\n") if log.exists() else 0
        before = lines if before is None or lines < before else before
        if lines >= before + wanted:
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def differing(one: Path, other: Path) -> list[str]:
    """The arrays of two work directories' last checkpoints that are not the same, bit for bit."""
    parts = (metadata.WEIGHTS, TRAINING)
    ours, theirs = (
        flat({name: store.load_tree(workdir / "last" / name, None) for name in parts})
        for workdir in (one, other)
    )
    if ours.keys() != theirs.keys():
        return sorted(ours.keys() ^ theirs.keys())
    return [path for path, leaf in ours.items() if not np.array_equal(leaf, theirs[path])]


@benchmark(
    data=(EMBEDDED, "data set, as for train.fit"),
    kills=(20, "how many"),
    steps=(150, "of each run"),
    seed=(0, "of the moments"),
)
def main(*, data: str, kills: int, steps: int, seed: int) -> None:
    """Runs the command line."""
    rng = random.Random(seed)  # noqa: S311
    with tempfile.TemporaryDirectory() as directory:
        calm, killed = Path(directory) / "calm", Path(directory) / "killed"
        finish(fit(calm, data, steps))
        for _ in tqdm(range(kills), unit="kill"):
            if not kill_at_random(killed, data, steps, rng):
                raise InputError("training ended before it could be killed; give more --steps")
        passed_over = finish(fit(killed, data, steps)).count("passed over")
        apart = differing(calm, killed)
    print(f"{kills} kills, {passed_over} checkpoints passed over at the end")
    if apart:
        raise InputError(f"{len(apart)} arrays differ: {', '.join(apart[:5])}")
    print("the last checkpoints are the same to the last bit")


if __name__ == "__main__":
    main()
