"""The speed of this project beside PyTorch: the same weights and pictures, taking turns.

The network is ynet-224 at full size. PyTorch runs as published (eager, NCHW), with channels last,
and with channels last and torch.compile; the fastest of these is PyTorch at its best. Before
anything is timed, all must give the same outputs; compilation and the first call of each turn are
outside the clock. Ratios are PyTorch's time over this project's: above 1, this project is faster.

Sizes that do not fit the memory, or take longer than --patience a call, are left out and listed. On
a GPU, --minutes 7 keeps it all within ten: a row of each task and dtype comes first. It needs none
of the data libraries, and draws the chart only if Matplotlib is installed.
"""

import contextlib
import json
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from tqdm import tqdm

from benchmarks import machine
from benchmarks.contenders import CALLS, OURS, PYTORCH, Subject, make, subject_of
from benchmarks.machine import DIRECTORY, GIB, Machine, benchmark, in_turn, run_module
from benchmarks.subject import LAYOUT, WIDTH, network, write_model
from benchmarks.table import ms, table, write_chart
from flax_unet import UNetConfig
from flax_unet.checkpoint.provenance import made_by
from flax_unet.nn.config import DTYPES
from flax_unet.summary import layers
from flax_unet.utils.errors import InputError
from flax_unet.utils.files import staged_directory
from train.data.synthetic.scene import ProceduralPortraits

_PUBLISHED, _, _COMPILED = PYTORCH
# Difference of outputs to their mean magnitude: the largest one in float32; the mean in bfloat16,
# which has 8 bits and whose operations autocast chooses.
_CLOSE = {
    ("inference", "float32"): (np.max, 1e-3),
    ("training", "float32"): (np.max, 2e-3),
    ("inference", "bfloat16"): (np.mean, 0.05),
    ("training", "bfloat16"): (np.mean, 0.05),
}
_TIMES_PLANNED = 3  # what all contenders take together, to our compiler's plan
_PASSES = {"inference": 1, "training": 3}  # forwards; a backward pass costs two


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


_TASKS = (  # with batches, by how much they say of a GPU
    *(("inference", 32), ("training", 8), ("inference", 1), ("training", 64)),
    *(("inference", 128), ("training", 2), ("inference", 8)),
)
_ROWS = [Row(task, dtype, batch) for task, batch in _TASKS for dtype in DTYPES]
_QUICK = [Row("inference", "float32", 1), Row("training", "float32", 2)]


class LeftOut(Exception):  # noqa: N818 - nothing went wrong
    """Why a row is not compared."""


def check(row: Row, found: dict[str, dict[str, np.ndarray]]) -> None:
    """Raises an InputError unless all results are PyTorch's as published."""
    expected = found[_PUBLISHED]
    of, bound = _CLOSE[row[:2]]
    for name, result in found.items():
        for output, values in result.items():
            scale = np.abs(expected[output]).mean()
            difference = of(np.abs(values - expected[output])) / scale
            if not difference <= bound:
                raise InputError(
                    f"{row}: {output} of {name} is {difference:.1e} of its mean magnitude away "
                    f"from PyTorch's; nothing was timed. Compare the versions with constraints.txt"
                )


def compare(
    row: Row, subject: Subject, bounds: Machine, names: Sequence[str], rounds: int
) -> dict[str, Any]:
    """The figures of a row.

    Raises:
        LeftOut: it does not fit the memory, or this project or PyTorch as published fails.
    """
    subject = subject.take(row.batch)
    made, results, first, peaks, failed = {}, {}, {}, {}, {}
    contender = None
    for name in names:
        before, start = _gpu_memory(), time.perf_counter()
        try:
            contender = make(name, row.task, subject, row.dtype)
            needed = _TIMES_PLANNED * (contender.planned or 0)
            if needed > (free := machine.free_memory()):
                raise LeftOut(f"it takes {needed / GIB:.1f} GiB, {free / GIB:.1f} are free")
            contender.call()
        except RuntimeError as error:  # out of memory, or no compiler: both frameworks' are such
            failed[name] = (str(error) or type(error).__name__).strip().splitlines()[0]
            continue
        first[name] = time.perf_counter() - start
        if torch.cuda.is_available():  # XLA may reserve more than its plan
            peaks[name] = contender.planned or torch.cuda.max_memory_allocated() - before
        for _ in range(CALLS[row.task] - 1):
            contender.result()
            contender.call()
        results[name] = contender.result()
        made[name] = contender
    if not {OURS, _PUBLISHED} <= made.keys():
        raise LeftOut("; ".join(f"{name}: {why}" for name, why in failed.items()))
    check(row, results)
    seconds = in_turn({name: contender.call for name, contender in made.items()}, rounds)
    del made, contender
    if bounds.platform == "cpu":
        peaks = {name: memory_of_process(name, row, subject) for name in seconds}
    else:
        torch.cuda.empty_cache()
    operations = row.passes * operations_of(subject.config)
    median = {name: statistics.median(of) for name, of in seconds.items()}
    ratios = {name: of / median[OURS] for name, of in median.items() if name != OURS}
    best = min(ratios, key=ratios.__getitem__)
    rates = {name: operations / of for name, of in median.items()}
    product_rate = bounds.product_rates[row.dtype]
    return {
        **row._asdict(),
        "seconds": {name: {"median": median[name], "all": of} for name, of in seconds.items()},
        "pytorch_at_its_best": best,
        "ratio_to_pytorch_as_published": ratios[_PUBLISHED],
        "ratio_to_pytorch_at_its_best": ratios[best],
        "ratios": ratios,
        "teraflops_a_second": {name: of / 1e12 for name, of in rates.items()},
        "share_of_matrix_product_rate": {name: of / product_rate for name, of in rates.items()},
        "peak_memory_bytes": peaks,
        "first_call_seconds": first,
        "floor_seconds": {
            "operations": operations / product_rate,
            "bytes": bytes_moved(row, subject.config) / bounds.bandwidth,
        },
        "failed": failed,
    }


def _gpu_memory() -> int:
    """Bytes that PyTorch holds on a GPU, whose peak is counted from now on."""
    if not torch.cuda.is_available():
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def memory_of_process(name: str, row: Row, subject: Subject) -> int | None:
    """Bytes that a contender takes on a CPU, by a process of its own.

    None for what PyTorch compiles, since its compiler takes more than the network.
    """
    if name == _COMPILED:
        return None
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_memory, name, row.task, row.dtype, subject).result()
        except (BrokenProcessPool, RuntimeError):  # there is too little memory for it
            return None


def _memory(name: str, task: str, dtype: str, subject: Subject) -> int:
    before = machine.peak_memory()
    contender = make(name, task, subject, dtype)
    for _ in range(2):  # the second has what an optimizer keeps
        contender.call()
    return machine.peak_memory() - before


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


def starts(base_width: int, *, with_compile: bool) -> dict[str, dict[str, float | None]]:
    """Seconds from a command to its first verdict, by contender; None if it failed.

    The second start finds what the first one compiled.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), base_width)
        face = Path(folder) / "face.png"
        ProceduralPortraits(1, 0)[0][1].save(face)
        theirs = ["benchmarks.start", str(model.parent / "ckpt.pth"), str(face)]
        commands = {
            "this project": ["flax_unet.predict", str(model), str(face), "--faces", "none"],
            "PyTorch, as published": theirs,
        }
        if with_compile:
            commands["PyTorch, compiled"] = [*theirs, "--compile"]
        found: dict[str, dict[str, float | None]] = {}
        for number, (name, words) in enumerate(commands.items()):
            found[name] = dict.fromkeys(("first", "second"))
            with contextlib.suppress(InputError):
                for start in found[name]:
                    found[name][start] = run_module(*words, cache=f"{folder}/{number}")
        return found


def _report(
    *, quick: bool, rounds: int, patience: float, minutes: float, base_width: int
) -> dict[str, Any]:
    start = time.perf_counter()
    names = [OURS, *(name for name in PYTORCH if not (quick and name == _COMPILED))]
    of_starts = starts(base_width, with_compile=not quick)
    subject = subject_of(network(base_width))
    bounds = machine.measure()
    rows = _QUICK if quick else _ROWS
    found: dict[Row, dict[str, Any]] = {}
    left_out: dict[Row, str] = {}
    # Seconds a picture and pass of the slowest, by dtype. At first by a small convolution, because
    # PyTorch takes minutes in bfloat16 on a CPU without instructions for it; training is judged by
    # inference until one of its rows was measured.
    pace = {of: operations_of(subject.config) / bounds.convolution_rates[of] for of in DTYPES}
    for row in tqdm(rows, unit="row", disable=None):
        try:
            if (expected := pace[row.dtype] * row.passes) > patience:
                raise LeftOut(f"a call would take about {expected:.0f} s")
            if time.perf_counter() - start > 60 * minutes:
                raise LeftOut(f"{minutes:g} minutes were over")
            result = compare(row, subject, bounds, names, 3 if quick else rounds)
        except LeftOut as why:
            left_out[row] = str(why)
        else:
            found[row] = result
            median = {name: of["median"] for name, of in result["seconds"].items()}
            # All that is left of a comparison that is ended from outside.
            times = "; ".join(f"{name} {ms(seconds)} ms" for name, seconds in median.items())
            tqdm.write(f"{row}: {times}", file=sys.stderr)
            pace[row.dtype] = max(median.values()) / row.passes
    rows = sorted(rows, key=lambda row: (row.task, DTYPES.index(row.dtype), row.batch))
    return {
        "layout": LAYOUT,
        "base_width": base_width,
        "machine": bounds._asdict(),
        "tf32": False,
        "rows": [found[row] for row in rows if row in found],
        "left_out": {str(row): left_out[row] for row in rows if row in left_out},
        "starts": of_starts,
        "made_by": made_by(),
    }


@benchmark(
    out=(None, "new directory for JSON and chart", DIRECTORY),
    quick=(False, "two rows, without torch.compile"),
    rounds=(5, "turns of each"),
    patience=(10.0, "rows are left out of which one call would take more seconds"),
    minutes=(math.inf, "rows are left out that would start later (default: no limit)"),
    base_width=WIDTH,
)
def main(*, out: Path | None, **chosen: Any) -> None:
    """Runs the command line."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs room, too
    if (torch.cuda.is_available()) != (jax.default_backend() == "gpu"):
        raise InputError(
            f"JAX computes on {jax.default_backend()} and PyTorch does not; install both for the "
            "same device, or hide it from JAX: JAX_PLATFORMS=cpu"
        )
    # Before hours of work, since the directory may not be writable.
    with contextlib.nullcontext() if out is None else staged_directory(out) as stage:
        report = _report(**chosen)
        print(table(report))
        if stage is not None:
            (stage / "compare.json").write_text(json.dumps(report, indent=1) + "\n")
            try:
                write_chart(stage / "compare.png", report)
            except ModuleNotFoundError as error:
                print(f"\nThe chart is left out: {error.name} is not installed")


if __name__ == "__main__":
    main()
