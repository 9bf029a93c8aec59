"""Steps of training on pictures in memory: their time, their memory, what is compiled again.

The network is ynet-224 with the published recipe. Each batch goes from the host to the device as in
`train.fit`, but nothing is read, decoded, logged or saved, so that neither a data library nor
PyTorch is needed. `benchmarks.training_cost` measures the whole of `train.fit`.
"""

import collections
import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from benchmarks.machine import FILE, GIB, compilations, options, peak_memory, report
from benchmarks.subject import LAYOUT, WIDTH, faces, network, take, training
from flax_unet import UNet, UNetConfig
from flax_unet.checkpoint.provenance import made_by
from flax_unet.nn.config import DTYPES
from flax_unet.utils.arguments import image_size
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError, command
from train import distributed
from train.fit.step import zero_totals


def train(config: UNetConfig, dtype: str, batch_size: int, steps: int) -> dict[str, Any]:
    """Takes steps on the first device, from initial weights; what they cost.

    Args:
        config: a network with both heads.
        dtype: what its convolutions compute in.
        batch_size: pictures a step.
        steps: at least 2; the first one, which compiles, is timed by itself.

    Raises:
        InputError: the loss of a step is not finite.
    """
    devices = jax.local_devices()[:1]
    model = UNet(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
    step, (state, _) = training(model, devices)
    state = distributed.replicate(state, devices)
    frames = faces(config.input_size)
    events = compilations()
    running: collections.deque[Any] = collections.deque()
    losses, ends, compiled = [], [time.perf_counter()], 0
    for number in tqdm(range(steps), unit="step", disable=None):
        batch = distributed.shard_batch(take(frames, number * batch_size, batch_size), devices)
        totals = distributed.replicate(zero_totals(), devices)
        state, totals, *_ = step(state, totals, batch)
        running.append(totals.loss)
        # As in training, the next step is asked for before the last one is done.
        if number == 0 or len(running) > 1:
            losses.append(float(distributed.fetch(running.popleft())))
            ends.append(time.perf_counter())
        if number == 0:
            compiled = len(events)
    losses.extend(float(distributed.fetch(loss)) for loss in running)
    ends.append(time.perf_counter())
    if not np.isfinite(losses).all():
        bad = int(np.flatnonzero(~np.isfinite(losses))[0]) + 1
        raise InputError(f"the loss of step {bad} is not finite; try --dtype float32")
    seconds = np.diff(ends)
    stats = devices[0].memory_stats()
    peak = stats["peak_bytes_in_use"] if stats else peak_memory()
    return {
        "device": devices[0].device_kind,
        "first_step_seconds": float(seconds[0]),
        "milliseconds_a_step": {
            "mean": 1e3 * float(seconds[1:].sum()) / (steps - 1),
            "median": 1e3 * statistics.median(seconds[1:]),
            "least": 1e3 * float(seconds[1:].min()),
            "most": 1e3 * float(seconds[1:].max()),
        },
        "images_a_second": (steps - 1) * batch_size / float(seconds[1:].sum()),
        "peak_memory_gib": round(peak / GIB, 3),
        "compilations_after_the_first_step": len(events) - compiled,
        "losses": {"first": losses[0], "last": losses[-1]},
    }


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = options(
        "steps",
        __doc__,
        steps=(200, "of training"),
        dtype=("float32", "of convolutions", {"choices": DTYPES}),
        batch_size=(32, "pictures a step"),
        base_width=WIDTH,
        size=("224", "height x width in pixels, or one number", {"type": image_size}),
        out=(None, "JSON file to write", FILE),
    ).parse_args(argv)
    if args.steps < 2:
        raise InputError("--steps 1: expected at least 2; the first one is mostly compilation")
    try:
        config = dataclasses.replace(network(args.base_width), image_size=args.size)
    except ValueError as error:
        raise InputError(f"there is no such network: {error}") from error
    keep_compiled()
    asked = {k: v for k, v in vars(args).items() if k != "out"}
    found = train(config, args.dtype, args.batch_size, args.steps)
    report({"layout": LAYOUT, **asked, **found, "made_by": made_by()}, args.out)


if __name__ == "__main__":
    main()
