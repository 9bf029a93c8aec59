"""Steps of training on pictures in memory: their time, their memory, what is compiled again.

The network is ynet-224 with the published recipe. Each batch goes from the host to the device as in
`train.fit`, but nothing is read, decoded, logged or saved, so that neither a data library nor
PyTorch is needed.
"""

import collections
import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from benchmarks.machine import FILE, GIB, benchmark, compilations, peak_memory, report
from benchmarks.subject import LAYOUT, WIDTH, faces, network, take, training
from flax_unet import UNet, UNetConfig
from flax_unet.checkpoint.provenance import made_by
from flax_unet.nn.config import DTYPES
from flax_unet.utils.arguments import image_size
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError
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
    running: collections.deque[jax.Array] = collections.deque()  # losses of steps not yet done
    losses, ends, compiled = [], [time.perf_counter()], 0

    def wait() -> None:
        losses.append(float(distributed.fetch(running.popleft())))
        ends.append(time.perf_counter())

    for number in tqdm(range(steps), unit="step", disable=None):
        batch = distributed.shard_batch(take(frames, number * batch_size, batch_size), devices)
        totals = distributed.replicate(zero_totals(), devices)
        state, totals, *_ = step(state, totals, batch)
        running.append(totals.loss)
        # As in training, the next step is asked for before the last one is done.
        if number == 0 or len(running) > 1:
            wait()
        if number == 0:
            compiled = len(events)
    wait()
    if not np.isfinite(losses).all():
        bad = int(np.flatnonzero(~np.isfinite(losses))[0]) + 1
        raise InputError(f"the loss of step {bad} is not finite; try --dtype float32")
    first, *others = np.diff(ends).tolist()
    stats = devices[0].memory_stats()
    peak = stats["peak_bytes_in_use"] if stats else peak_memory()
    return {
        "device": devices[0].device_kind,
        "first_step_seconds": first,
        "milliseconds_a_step": {
            "mean": 1e3 * statistics.mean(others),
            "median": 1e3 * statistics.median(others),
            "least": 1e3 * min(others),
            "most": 1e3 * max(others),
        },
        "images_a_second": batch_size / statistics.mean(others),
        "peak_memory_gib": round(peak / GIB, 3),
        "compilations_after_the_first_step": len(events) - compiled,
        "losses": {"first": losses[0], "last": losses[-1]},
    }


@benchmark(
    steps=(200, "of training"),
    dtype=("float32", "of convolutions", {"choices": DTYPES}),
    batch_size=(32, "pictures a step"),
    base_width=WIDTH,
    size=("224", "height x width in pixels, or one number", {"type": image_size}),
    out=(None, "JSON file to write", FILE),
)
def main(*, out: Path | None, **asked: Any) -> None:
    """Runs the command line."""
    if asked["steps"] < 2:
        raise InputError("--steps 1: expected at least 2; the first one is mostly compilation")
    try:
        config = dataclasses.replace(network(asked["base_width"]), image_size=asked["size"])
    except ValueError as error:
        raise InputError(f"there is no such network: {error}") from error
    keep_compiled()
    found = train(config, asked["dtype"], asked["batch_size"], asked["steps"])
    report({"layout": LAYOUT, **asked, **found, "made_by": made_by()}, out)


if __name__ == "__main__":
    main()
