"""Where the time of inference and of a training step goes, by operation as XLA calls it.

Runs ynet-224 at full size in float32 under JAX's profiler, on this machine's first device. Where
several operations run at a moment, each gets an equal part of it; where none does, the one that
ended last gets it, because some end as soon as threads have their work.
"""

import collections
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jax
from tqdm import tqdm

from benchmarks.compare import Row
from benchmarks.contenders import CALLS, OURS, Contender, make, subject_of
from benchmarks.machine import options, report
from benchmarks.subject import network
from flax_unet.utils.errors import InputError, command

_ROWS = [Row("inference", "float32", 8), Row("training", "float32", 2)]
_LEAST = 0.005  # of the time; what takes less is reported together
_REST = "the rest"

Operation = tuple[str, float, float]  # name, start, end


def shares(operations: Iterable[Operation]) -> dict[str, float]:
    """The parts of the time from the first start to the last end by name, largest first.

    Raises:
        InputError: no operation takes any time.
    """
    changes = sorted(
        change
        for name, start, end in operations
        if end > start
        for change in ((start, 1, name), (end, -1, name))
    )
    if not changes:
        raise InputError("JAX's profiler reports no operation on this device; use another one")
    found: collections.defaultdict[str, float] = collections.defaultdict(float)
    running: collections.Counter[str] = collections.Counter()
    before, _, last = changes[0]
    for at, change, name in changes:
        now = running or {last: 1}
        for other, times in now.items():
            found[other] += (at - before) * times / sum(now.values())
        running[name] += change
        running += collections.Counter()  # without those that have ended
        before, last = at, name
    total = sum(found.values())
    small = [name for name, part in found.items() if part < _LEAST * total]
    if small:
        found[_REST] = sum(found.pop(name) for name in small)
    return {name: found[name] / total for name in sorted(found, key=found.__getitem__)[::-1]}


def operations(contender: Contender) -> Iterator[Operation]:
    """What ran on the device in one call, in nanoseconds; loops by what runs in them."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # whose many events push out others
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            contender.call()
        (file,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(file))
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                if name and not name.startswith("while"):
                    yield re.sub(r"[.\d]+$", "", name), event.start_ns, event.end_ns


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    options("profile", __doc__).parse_args(argv)
    subject = subject_of(network())
    found = {}
    for row in tqdm(_ROWS, unit="row", disable=None):
        contender = make(OURS, row.task, subject.take(row.batch), row.dtype)
        for _ in range(CALLS[row.task]):
            contender.call()
        found[str(row)] = shares(operations(contender))
    report({"shares_of_the_time": found})


if __name__ == "__main__":
    main()
