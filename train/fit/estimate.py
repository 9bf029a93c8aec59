"""What a step needs, estimated before it runs: memory, and time on a CPU; advice if it is much."""

import contextlib
import functools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flax_unet.utils.errors import gigabytes
from train.distributed import Device
from train.fit.config import Recipe

_SPARE = 0.9  # share of the free memory that is counted on: the estimate lacks some buffers
_SHARE = 0.25  # of the speed of a matrix product, which a step reaches on CPUs: 0.15 to 0.4
_SIDE = 1024  # of the matrices that are multiplied to learn a CPU's speed
_DAY = 24 * 3600
_SPANS = ((2 * _DAY, _DAY, "days"), (2 * 3600, 3600, "h"), (120, 60, "min"), (0, 1, "s"))


class Needs(NamedTuple):
    """What a step needs on each device; of what is None nothing is known."""

    fixed: int  # bytes of the state, whatever the batch
    memory: int  # bytes in all
    free: int | None  # bytes that there are for both
    seconds: float | None


def needs(program: Any, devices: list[Device], recipe: Recipe) -> Needs:
    """The needs of a compiled step, whose arguments are on the devices already."""
    plan, device = program.memory_analysis(), devices[0]
    fixed = plan.argument_size_in_bytes
    memory = fixed + plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        free = stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
        return Needs(fixed, memory, None if free is None else free + fixed, None)
    # Devices on CPUs are pretended ones, which share memory and processors. XLA counts the
    # operations of a loop, such as that over the parts of a batch, once.
    operations = program.cost_analysis()["flops"] * recipe.accumulate * len(devices)
    free = free_memory()
    free = None if free is None else free // len(devices) + fixed
    return Needs(fixed, memory, free, operations / (_SHARE * _speed(device)))


def notes(
    found: Needs, recipe: Recipe, devices: int, steps_per_epoch: int, steps: int
) -> list[str]:
    """The needs in words. `devices` are those of all processes, `steps` those until the end."""
    where = "on each device" if devices > 1 else "of memory"
    memory = f"a step needs about {gigabytes(found.memory)} {where}"
    if found.free is not None:
        memory += f"; {gigabytes(found.free)} are free"
        if found.memory > found.free:
            memory += f", so it may not fit: {remedy(found, recipe, devices)}"
    if found.seconds is None:
        return [memory]
    epoch, run = found.seconds * steps_per_epoch, found.seconds * steps
    duration = f"an epoch takes very roughly {span(epoch)} on this CPU, the run {span(run)}"
    if run > _DAY:
        duration += "; a GPU, a smaller --base-width or --size, or fewer pictures make it shorter"
    return [memory, duration]


def span(seconds: float) -> str:
    """A duration in words, with two digits: `3.5 h`; at least a second."""
    seconds = max(seconds, 1)
    unit, name = next((unit, name) for least, unit, name in _SPANS if seconds >= least)
    value = seconds / unit
    return f"{value:,.1f} {name}" if value < 10 and unit > 1 else f"{value:,.0f} {name}"


def remedy(found: Needs | None, recipe: Recipe, devices: int) -> str:
    """What would need less memory, with numbers. None: nothing is known of the needs."""
    share = recipe.batch_size // devices // recipe.accumulate
    numbers = [number for number in range(2, share + 1) if not share % number]
    effect = "would need less"
    if found is not None and found.free is not None and found.memory > found.free:
        room, rest = _SPARE * found.free - found.fixed, found.memory - found.fixed
        numbers = [number for number in numbers if rest / number <= room]
        effect = "would fit"
    ways = []
    if numbers:
        ways.append(f"--batch-size {recipe.batch_size // numbers[0]} {effect}")
        if "dice" not in recipe.mask_loss:  # which is of a whole batch
            parts = recipe.accumulate * numbers[0]
            ways.append(f"the same batch in parts, --accumulate {parts}, too")
    else:
        ways.append("a smaller --base-width or --size would need less")
    if not recipe.remat:
        ways.append("on a GPU or TPU --remat needs about half")
    return "; ".join(ways)


def free_memory() -> int | None:
    """Bytes of the host that this process may still take, within its container or batch job.

    None: the system does not say, as on macOS and Windows.
    """
    found = _kibibytes("/proc/meminfo", "MemAvailable")
    held = _kibibytes("/proc/self/status", "VmRSS") or 0
    limits = [limit - held for limit in _limits()]
    return None if found is None else max(min([found, *limits]), 0)


def _kibibytes(path: str, field: str) -> int | None:
    with contextlib.suppress(OSError):
        if match := re.search(rf"^{field}:\s*(\d+) kB$", Path(path).read_text(), re.M):
            return 1024 * int(match[1])
    return None


def _limits() -> Iterator[int]:
    """The limits of the control groups that this process is in, and of those around them."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup", "memory" if controllers else "")
        group = root / name.lstrip("/")
        for place in (group, *group.parents):
            for file in ("memory.max", "memory.limit_in_bytes"):
                with contextlib.suppress(OSError, ValueError):  # "max" is not a number
                    yield int((place / file).read_text())


@functools.cache
def _speed(device: Device) -> float:
    """Operations a second of a matrix product in float32."""
    with jax.default_device(device):
        ones = jnp.ones((_SIDE, _SIDE))
        product = jax.jit(jnp.dot)
        seconds = []
        for _ in range(4):  # the first one compiles
            start = time.perf_counter()
            product(ones, ones).block_until_ready()
            seconds.append(time.perf_counter() - start)
    return 2 * _SIDE**3 / min(seconds)
