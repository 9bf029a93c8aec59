"""What a machine can do: the bounds that no program on it gets past."""

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flax_unet.nn.config import DTYPES

_TURNS = 8
_SIZES = {"cpu": (3072, 2**27)}  # rows of a square matrix, bytes; by platform
_SIZES_ELSEWHERE = (8192, 2**30)
_INSTRUCTIONS = {  # that tell one processor's speed from another's; the first that it has
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}
_CHANNELS, _SIDE = 64, 28  # of a small map
_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss


class Machine(NamedTuple):
    """Where a comparison ran."""

    name: str  # of the device
    platform: str
    threads: int  # that PyTorch uses on a CPU; XLA uses one for each processor that it may
    product_rates: dict[str, float]  # of XLA: floating-point operations a second, by dtype
    convolution_rates: dict[str, float]  # likewise of PyTorch, by a small one
    bandwidth: float  # bytes a second, read and written


def measure() -> Machine:
    """Measures the first device."""
    import torch

    device = jax.local_devices()[0]
    side, size = _SIZES.get(device.platform, _SIZES_ELSEWHERE)
    rates = {}
    for dtype in DTYPES:
        matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
        product = jax.jit(lambda x: jnp.matmul(x, x, precision=jax.lax.Precision.HIGHEST))
        rates[dtype] = 2 * side**3 / _fastest(lambda p=product, m=matrix: p(m))
    array = jnp.ones(size // 4, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    return Machine(
        device.device_kind if device.platform != "cpu" else _processor(),
        device.platform,
        torch.get_num_threads(),
        rates,
        {dtype: _convolution_rate(dtype) for dtype in DTYPES},
        2 * size / _fastest(lambda: add(array)),
    )


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
    """Seconds of the fastest of several calls."""
    jax.block_until_ready(call())
    seconds = []
    for _ in range(_TURNS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def free_memory() -> int:
    """Bytes that the first device still has room for."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    (line,) = (
        line
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    return 2**10 * int(line.split()[1])


def peak_memory() -> float:
    """The most memory that this process has held so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT / 2**30


def _processor() -> str:
    count = len(os.sched_getaffinity(0))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {name.strip(): of.strip() for name, _, of in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    found = [name for flag, name in _INSTRUCTIONS.items() if flag in flags]
    return ", ".join([fields.get("model name", "CPU"), f"{count} cores", *found[:1]])
