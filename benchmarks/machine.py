"""Shared by all benchmarks: the machine's bounds, memory, clocks, command lines and output."""

import argparse
import contextlib
import json
import math
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flax_unet.nn.config import DTYPES
from flax_unet.utils.arguments import at_least_one
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.files import staged_file
from train.options import flag

GIB = 2**30
FILE: dict[str, Any] = {"type": Path, "metavar": "FILE"}
DIRECTORY: dict[str, Any] = {"type": Path, "metavar": "DIR"}
FIRST: dict[str, Any] = {"type": Path, "is_first": True}  # a path, which has no option's name
_TURNS = 4
_SIZES = {"cpu": (3072, 2**27)}  # rows of a square matrix, bytes; by platform
_SIZES_ELSEWHERE = (8192, 2**30)
_INSTRUCTIONS = {  # a processor is described by the first that it has
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}
_CHANNELS, _SIDE = 64, 28  # of a small map
_WATCH = 0.2  # seconds
_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss


class Machine(NamedTuple):
    """Where a comparison ran."""

    name: str  # of the device
    platform: str
    threads: int  # of PyTorch on a CPU; XLA uses one for each processor that it may
    product_rates: dict[str, float]  # of XLA: floating-point operations a second, by dtype
    convolution_rates: dict[str, float]  # the same of PyTorch, by a small convolution
    bandwidth: float  # bytes a second, read and written


def ceilings() -> dict[str, Any]:
    """What the first device does at most: the fields of a Machine that need no PyTorch."""
    device = jax.local_devices()[0]
    side, size = _SIZES.get(device.platform, _SIZES_ELSEWHERE)
    rates = {}
    for dtype in DTYPES:
        matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
        product = jax.jit(lambda x: jnp.matmul(x, x, precision=jax.lax.Precision.HIGHEST))
        rates[dtype] = 2 * side**3 / _fastest(lambda p=product, m=matrix: p(m))
    array = jnp.ones(size // 4, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    return {
        "name": device.device_kind if device.platform != "cpu" else processor(),
        "platform": device.platform,
        "product_rates": rates,
        "bandwidth": 2 * size / _fastest(lambda: add(array)),
    }


def measure() -> Machine:
    """Measures the first device."""
    import torch

    rates = {dtype: _convolution_rate(dtype) for dtype in DTYPES}
    return Machine(**ceilings(), threads=torch.get_num_threads(), convolution_rates=rates)


def _convolution_rate(dtype: str) -> float:
    """PyTorch's, of a map so small that it takes a second at most even where it is emulated."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, kernel = (
        torch.ones(shape, dtype=getattr(torch, dtype), device=device)
        for shape in ((1, _CHANNELS, _SIDE, _SIDE), (_CHANNELS, _CHANNELS, 3, 3))
    )

    def convolve() -> None:
        torch.nn.functional.conv2d(x, kernel, padding=1)
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * 9 * _CHANNELS**2 * _SIDE**2 / _fastest(convolve)


def _fastest(call: Callable[[], Any]) -> float:
    return min(in_turn({"": call}, _TURNS)[""])


def processor() -> str:
    """The CPU: its name, the cores that may be used, and its widest instructions."""
    count = len(os.sched_getaffinity(0))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {name.strip(): of.strip() for name, _, of in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    found = [name for flag, name in _INSTRUCTIONS.items() if flag in flags]
    return ", ".join([fields.get("model name", "CPU"), f"{count} cores", *found[:1]])


def in_turn(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of the second of two calls in each turn, by name.

    The first one finds the caches full of the others' data, and memory that was given back to the
    host of a virtual machine; it also compiles.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            jax.block_until_ready(call())
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return seconds


def run_module(
    *words: str, cache: str | None = None, watch: Callable[[int], None] | None = None
) -> float:
    """Seconds that `python -m WORDS` takes in a process of its own, with Python's start.

    `cache` is a folder of what is compiled, in the place of the user's. `watch` is called with the
    number of the process a few times a second.

    Raises:
        InputError: it failed; its message is on standard error.
    """
    line = [sys.executable, "-m", *words]
    environment = dict(os.environ)
    if cache is not None:
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # it would go before the others
        environment |= dict.fromkeys(("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR"), cache)
    start = time.perf_counter()
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, env=environment) as process:
        while watch is not None and process.poll() is None:
            watch(process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_WATCH)
    if process.returncode:
        raise InputError(f"python -m {' '.join(words)} failed; its message is above")
    return time.perf_counter() - start


def free_memory() -> int:
    """Bytes that the first device still has room for."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    free = _kibibytes(Path("/proc/meminfo"), "MemAvailable")
    return sys.maxsize if free is None else free


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes."""
    # The other figure starts at the peak of the process that started this one.
    peak = _kibibytes(Path("/proc/self/status"), "VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT if peak is None else peak


def memory_of_tree(process: int) -> int:
    """Bytes that a process and those below it hold now; what several share counts for each."""
    held, folder = 0, Path(f"/proc/{process}")
    with contextlib.suppress(OSError):  # it has ended meanwhile
        held = _kibibytes(folder / "status", "VmRSS") or 0
        for children in folder.glob("task/*/children"):
            held += sum(map(memory_of_tree, map(int, children.read_text().split())))
    return held


def _kibibytes(path: Path, field: str) -> int | None:
    """Bytes of a field that the system gives in KiB; None if the file or field is missing."""
    found = re.search(rf"^{field}:\s*(\d+) kB$", path.read_text() if path.exists() else "", re.M)
    return 2**10 * int(found[1]) if found else None


def compilations() -> list[str]:
    """A list that grows by an entry with each program that JAX compiles from now on."""
    events: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: events.append(event) if "backend_compile" in event else None
    )
    return events


def benchmark(**arguments: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function of options the command of its module, whose docstring is the help.

    Args:
        arguments: by the option's name, its default, its help, and further keywords of argparse.
            The type is the default's; whole numbers start at 1 unless the default is 0.
    """

    def command_of(run: Callable[..., None]) -> Callable[..., None]:
        module: Any = sys.modules[run.__module__]
        parser = argparse.ArgumentParser(
            prog=f"python -m {module.__spec__.name}",  # where the module itself is __main__
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for option, (default, text, *more) in arguments.items():
            keywords: dict[str, Any] = {"default": default, "help": text}
            if isinstance(default, bool):
                keywords["action"] = "store_true"
            elif default is not None:
                is_count = type(default) is int and default
                keywords["type"] = at_least_one if is_count else type(default)
                if default != math.inf:
                    keywords["help"] += f" (default: {default})"
            keywords |= dict(*more)
            name = option if keywords.pop("is_first", False) else flag(option)
            parser.add_argument(name, **keywords)
        return command(lambda argv=None: run(**vars(parser.parse_args(argv))))

    return command_of


def report(result: dict[str, Any], out: Path | None = None) -> None:
    """Prints a result as JSON, and writes it to a file."""
    text = json.dumps(result, indent=1)
    print(text)
    if out is not None:
        with staged_file(out) as stage:
            stage.write_text(text + "\n")


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table whose first `left` columns are text and whose others are numbers."""
    line = ["---"] * left + ["---:"] * (len(header) - left)
    return [f"| {' | '.join(cells)} |" for cells in (header, line, *rows)]


def write_curves(path: Path, panels: dict[str, dict[str, list[Any]]]) -> None:
    """A PNG with a panel for each title: by name, one or more runs' values over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 + 4 * len(panels), 4), layout="constrained")
    plots = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, curves) in zip(plots, panels.items(), strict=True):
        for number, (name, runs) in enumerate(curves.items()):
            for run, values in enumerate(runs):
                steps = range(1, len(values) + 1)
                label = None if run else name
                axes.semilogy(steps, values, color=f"C{number}", lw=1, label=label)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend()
    with staged_file(path) as stage:
        figure.savefig(stage, format="png", dpi=120)
