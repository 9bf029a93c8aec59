"""What the forms of `flax_unet.nn.conv` and `layers.max_pool` save on a CPU, beside XLA's own.

Each layer by itself at the sizes of ynet-224, then the whole network, the forms taking turns.
"""

import argparse
import contextlib
import functools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from benchmarks.compare import subject_of
from benchmarks.contenders import OURS, make
from benchmarks.subject import FULL_WIDTH, LAYOUT, tensors_of
from flax_unet import PUBLISHED
from flax_unet.nn import conv, layers
from flax_unet.utils.errors import command

_LEVELS = ((224, 64), (112, 128), (56, 256), (28, 512), (14, 1024))  # pixels a side, channels


@contextlib.contextmanager
def xlas_own() -> Iterator[None]:
    """Has what is traced meanwhile computed as XLA computes it."""
    kept = conv._on_cpu, conv._gradients_on_cpu
    conv._on_cpu = conv._plain
    conv._gradients_on_cpu = conv._plain_gradients
    try:
        yield
    finally:
        conv._on_cpu, conv._gradients_on_cpu = kept


def in_turn(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Milliseconds of each call, the median."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):  # the first compiles
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: round(1e3 * statistics.median(values), 1) for name, values in seconds.items()}


def _layers(batch: int, side: int, channels: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Calls by form, by what they compute at a level."""
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    skip, up = (noise(batch, side, side, channels) for _ in range(2))
    wide, kernel = noise(3, 3, 2 * channels, channels), noise(3, 3, channels, channels)
    both = jax.jit(lambda a, b, k: conv.convolve([a, b], k))
    plain = jax.jit(lambda a, b, k: conv._plain((a, b), k))
    yield (
        "convolution of two maps",
        {
            "XLA's": functools.partial(plain, skip, up, wide),
            "ours": functools.partial(both, skip, up, wide),
        },
    )
    gradients = {
        "XLA's": lambda x, k, g: conv._plain_gradients((x,), k, g),
        "ours": lambda x, k, g: conv._gradients_on_cpu((x,), k, g),
    }
    for number, of in enumerate(("the input", "the kernel")):  # what is not asked for is left out
        yield (
            f"gradient of {of}",
            {
                name: functools.partial(
                    jax.jit(lambda x, k, g, both=both, at=number: both(x, k, g)[at]),
                    skip,
                    kernel,
                    up,
                )
                for name, both in gradients.items()
            },
        )
    pools = {
        "XLA's": lambda x: nnx.max_pool(x, (2, 2), strides=(2, 2)),
        "ours": layers.max_pool,
    }
    yield (
        "max-pool and its gradient",
        {
            name: functools.partial(jax.jit(jax.grad(lambda x, pool=pool: pool(x).sum())), skip)
            for name, pool in pools.items()
        },
    )


def _network(task: str, batch: int) -> dict[str, Any]:
    """Calls of the whole network by form; pooling is ours in both."""
    subject = subject_of(PUBLISHED[LAYOUT], tensors_of(FULL_WIDTH)).take(batch)
    ours = make(OURS, task, subject, "float32").call
    ours()
    with xlas_own():
        theirs = make(OURS, task, subject, "float32").call
        theirs()
    return {"XLA's": theirs, "ours": ours}


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forms", description=__doc__)
    parser.add_argument("--batch-size", type=int, default=8, help="of the layers (default: 8)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument(
        "--training-batch", type=int, default=8, help="of the whole network (default: 8)"
    )
    args = parser.parse_args(argv)
    found: dict[str, Any] = {}
    for side, channels in tqdm(_LEVELS, unit="level", disable=None):
        for name, calls in _layers(args.batch_size, side, channels):
            found.setdefault(name, {})[f"{side} px, {channels} channels"] = in_turn(
                calls, args.rounds
            )
    for task, batch in (("inference", args.batch_size), ("training", args.training_batch)):
        found[f"the network, {task}, batch {batch}"] = in_turn(_network(task, batch), args.rounds)
    print(json.dumps({"milliseconds": found}, indent=1))


if __name__ == "__main__":
    main()
