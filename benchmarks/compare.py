"""The speed of this project beside PyTorch: the same weights and pictures, taking turns.

The network is ynet-224 at full size. PyTorch runs as published (eager, NCHW), with channels last,
and with channels last and torch.compile; the fastest of these is PyTorch at its best. Before
anything is timed, all must give the same outputs; compilation and the first call of each turn are
outside the clock. Ratios are PyTorch's time over this project's: above 1, this project is faster.

Sizes that would not fit the memory, or take longer than --patience a call, are left out by name. On
a GPU, --minutes 7 keeps it all within ten: small batches come first, so that what is left out are
the largest ones. No data library is needed; without Matplotlib there is no chart.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from tqdm import tqdm

from benchmarks import memory_of
from benchmarks.contenders import CALLS, OURS, PYTORCH, Contender, Subject, make
from benchmarks.machine import Machine, free_memory, measure
from benchmarks.start import starts
from benchmarks.subject import FULL_WIDTH, LAYOUT, tensors_of
from benchmarks.table import summary, table, write_chart
from flax_unet import PUBLISHED, UNetConfig
from flax_unet.checkpoint.provenance import made_by
from flax_unet.media.images import resized
from flax_unet.nn.config import DTYPES
from flax_unet.summary import layers
from flax_unet.utils.arguments import at_least_one
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.files import staged_directory
from train.data.synthetic.scene import ProceduralPortraits

_PUBLISHED, _, _COMPILED = PYTORCH
_BATCHES = {"inference": (1, 8, 32, 128), "training": (2, 8, 64)}
_QUICK = [("inference", "float32", 1), ("training", "float32", 2)]
# Of outputs, to their mean magnitude: rounding differs, most where autocast chooses its own.
_CLOSE = {
    ("inference", "float32"): 1e-3,
    ("inference", "bfloat16"): 0.3,
    ("training", "float32"): 2e-3,
    ("training", "bfloat16"): 0.3,
}
_TIMES_PLANNED = 3  # what all contenders take together, to what our compiler plans
_PASSES = {"inference": 1, "training": 3}  # forwards; a backward pass costs two
_PICTURES = 8


class Row(NamedTuple):
    """What is compared in turn."""

    task: str
    dtype: str
    batch: int

    def __str__(self) -> str:
        return f"{self.task}, {self.dtype}, batch {self.batch}"

    @property
    def passes(self) -> int:
        """Forward passes of a picture that a call amounts to."""
        return self.batch * _PASSES[self.task]


class LeftOut(Exception):  # noqa: N818 - nothing went wrong
    """Why a row is not compared."""


def subject_of(config: UNetConfig, tensors: dict[str, np.ndarray]) -> Subject:
    """A few drawn faces with seeded labels."""
    rng = np.random.default_rng(0)
    size = config.input_size
    drawn = ProceduralPortraits(_PICTURES, 0)
    portraits = [drawn[number][1] for number in range(_PICTURES)]
    image = np.stack([resized(portrait, size) for portrait in portraits])
    mask = (rng.random((_PICTURES, 1, 1)) < rng.random((1, *size))).astype(np.uint8)
    return Subject(config, tensors, image, mask, (np.arange(_PICTURES) % 2).astype(np.float32))


def check(row: Row, found: dict[str, dict[str, np.ndarray]]) -> None:
    """Raises an InputError unless all contenders say what PyTorch says as published."""
    expected = found[_PUBLISHED]
    for name, result in found.items():
        for output, values in result.items():
            scale = np.abs(expected[output]).mean()
            difference = np.abs(values - expected[output]).max() / scale
            if not difference <= _CLOSE[row[:2]]:
                raise InputError(
                    f"{row}: {output} of {name} is {difference:.1e} of its mean magnitude away "
                    f"from PyTorch's; nothing was timed. Compare the versions with constraints.txt"
                )


def timed(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender's second call in its turn.

    The first one finds caches full of others' data, and memory that it left given back to the host
    of a virtual machine: a user's call follows one of its own.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            contender.call()
            start = time.perf_counter()
            contender.call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def compare(
    row: Row, subject: Subject, machine: Machine, names: Sequence[str], rounds: int
) -> dict[str, Any]:
    """Everything that is told of a row.

    Raises:
        LeftOut: it does not fit the memory, or this project or PyTorch as published fails.
    """
    subject = subject.take(row.batch)
    made, first, peaks, failed = {}, {}, {}, {}
    for name in names:
        mark, start = memory_of.mark(), time.perf_counter()
        try:
            contender = make(name, row.task, subject, row.dtype)
            needed = _TIMES_PLANNED * (contender.planned or 0)
            if needed > (free := free_memory()):
                raise LeftOut(f"it takes {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free")
            contender.call()
        except RuntimeError as error:  # out of memory, or no compiler: both frameworks' are such
            failed[name] = (str(error) or type(error).__name__).strip().splitlines()[0]
            continue
        first[name] = time.perf_counter() - start
        peaks[name] = memory_of.since(mark, contender)
        made[name] = contender
    if not {OURS, _PUBLISHED} <= made.keys():
        raise LeftOut("; ".join(f"{name}: {why}" for name, why in failed.items()))
    for tested in made.values():
        for _ in range(CALLS[row.task] - 1):
            tested.call()
    check(row, {name: contender.result() for name, contender in made.items()})
    seconds = timed(made, rounds)
    del made
    if machine.platform == "cpu":
        peaks = {name: memory_of.of_process(name, row, subject) for name in seconds}
    else:
        torch.cuda.empty_cache()
    return {**told(row, subject.config, machine, first, seconds, peaks), "failed": failed}


def told(
    row: Row,
    config: UNetConfig,
    machine: Machine,
    first: dict[str, float],
    seconds: dict[str, list[float]],
    peaks: dict[str, int | None],
) -> dict[str, Any]:
    """What a row's times mean."""
    operations = row.passes * operations_of(config)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    best = min((name for name in seconds if name != OURS), key=median.__getitem__)
    ratios = {name: median[name] / median[OURS] for name in seconds if name != OURS}
    rate = machine.product_rates[row.dtype]
    moved = bytes_moved(row, config)
    return {
        **row._asdict(),
        "seconds": {
            name: {"median": median[name], "all": values} for name, values in seconds.items()
        },
        "pytorch_at_its_best": best,
        "ratio_to_pytorch_as_published": ratios[_PUBLISHED],
        "ratio_to_pytorch_at_its_best": ratios[best],
        "ratios": ratios,
        "teraflops_a_second": {name: operations / of / 1e12 for name, of in median.items()},
        "share_of_matrix_product_rate": {
            name: operations / of / rate for name, of in median.items()
        },
        "peak_memory_bytes": peaks,
        "first_call_seconds": first,
        "floor_seconds": {"operations": operations / rate, "bytes": moved / machine.bandwidth},
    }


def operations_of(config: UNetConfig) -> int:
    """Floating-point operations of a picture's forward pass; a multiply-add counts two."""
    return sum(layer.flops for layer in layers(config, config.input_size))


def bytes_moved(row: Row, config: UNetConfig) -> int:
    """An estimate: each layer's output written and read once, and the weights read.

    In training, weights are float32 in either dtype.
    """
    rows = list(layers(config, config.input_size))
    size = np.dtype(jax.numpy.dtype(row.dtype)).itemsize
    of_weight = size if row.task == "inference" else 4
    values = 2 * size * row.batch * sum(math.prod(layer.shape) for layer in rows if layer.flops)
    return _PASSES[row.task] * (values + of_weight * sum(layer.parameters for layer in rows))


def _rows(quick: bool) -> list[Row]:
    if quick:
        return [Row(*row) for row in _QUICK]
    return [
        Row(task, dtype, batch)
        for task, batches in _BATCHES.items()
        for dtype in DTYPES
        for batch in batches
    ]


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="new directory for JSON and chart")
    parser.add_argument("--quick", action="store_true", help="two rows, without torch.compile")
    parser.add_argument("--rounds", type=at_least_one, default=5, help="turns of each (default: 5)")
    parser.add_argument(
        "--patience",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="rows are left out of which one call would take longer (default: 10)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        metavar="M",
        help="rows are left out that would start later (default: no limit)",
    )
    parser.add_argument(
        "--base-width",
        type=at_least_one,
        default=FULL_WIDTH,
        metavar="N",
        help="of the network (default: the full size, 64)",
    )
    args = parser.parse_args(argv)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs room, too
    if (torch.cuda.is_available()) != (jax.default_backend() == "gpu"):
        raise InputError(
            f"JAX computes on {jax.default_backend()} and PyTorch does not; install both for the "
            "same device, or hide it from JAX: JAX_PLATFORMS=cpu"
        )
    # Before hours of work, since the directory may not be writable.
    with contextlib.nullcontext() if args.out is None else staged_directory(args.out) as stage:
        report = _report(args)
        print(table(report))
        if stage is not None:
            (stage / "compare.json").write_text(json.dumps(report, indent=1) + "\n")
            try:
                write_chart(stage / "compare.png", report)
            except ModuleNotFoundError as error:
                print(f"\nThe chart is left out: {error.name} is not installed")


def _report(args: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    names = [OURS, *(name for name in PYTORCH if not (args.quick and name == _COMPILED))]
    config = dataclasses.replace(PUBLISHED[LAYOUT], base_width=args.base_width)
    of_starts = starts(args.base_width, with_compile=not args.quick)
    subject = subject_of(config, tensors_of(args.base_width))
    machine = measure()
    rows = _rows(args.quick)
    found: dict[Row, dict[str, Any]] = {}
    left_out: dict[Row, str] = {}
    # Seconds a picture and pass of the slowest, by dtype. A small convolution tells beforehand that
    # PyTorch takes minutes, as it does in bfloat16 on a CPU without instructions for it; training
    # is judged by inference until one of its rows was measured.
    pace = {of: operations_of(config) / machine.convolution_rates[of] for of in DTYPES}
    for row in tqdm(sorted(rows, key=lambda row: row.batch), unit="row", disable=None):
        try:
            if (expected := pace[row.dtype] * row.passes) > args.patience:
                raise LeftOut(f"a call would take about {expected:.0f} s")
            if time.perf_counter() - start > 60 * args.minutes:
                raise LeftOut(f"{args.minutes:g} minutes were over")
            result = compare(row, subject, machine, names, 3 if args.quick else args.rounds)
        except LeftOut as why:
            left_out[row] = str(why)
        else:
            found[row] = result
            # All that is left of a comparison that is ended from outside.
            tqdm.write(summary(result), file=sys.stderr)
            pace[row.dtype] = max(of["median"] for of in result["seconds"].values()) / row.passes
    return {
        "layout": LAYOUT,
        "base_width": args.base_width,
        "machine": machine._asdict(),
        "tf32": False,
        "rows": [found[row] for row in rows if row in found],
        "left_out": {str(row): left_out[row] for row in rows if row in left_out},
        "starts": of_starts,
        "made_by": made_by(),
    }


if __name__ == "__main__":
    main()
