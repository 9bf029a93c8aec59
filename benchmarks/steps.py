"""Steps of training on pictures in memory: their time, their memory, what is compiled again.

The network is ynet-224 with the published recipe. Each batch goes from the host to the device as in
`train.fit`, but nothing is read, decoded, logged or saved, so that neither a data library nor
PyTorch is needed. `benchmarks.training_cost` measures the whole of `train.fit`.
"""

import argparse
import collections
import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from benchmarks.machine import peak_memory
from flax_unet import PUBLISHED, UNet, UNetConfig
from flax_unet.checkpoint.provenance import made_by
from flax_unet.media.images import resized
from flax_unet.nn.config import DTYPES, Size
from flax_unet.utils.arguments import at_least_one, image_size
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.files import staged_file
from train import distributed
from train.data.synthetic.scene import ProceduralPortraits
from train.fit.config import Recipe
from train.fit.losses import Objective
from train.fit.optimizer import make_optimizer
from train.fit.step import first_state, make_step, split, zero_totals

_LAYOUT = "ynet-224"
_PICTURES = 16  # drawn, and seen again and again
_COMPILATION = "backend_compile_duration"  # what JAX's events of it end in


def pictures(size: Size) -> dict[str, np.ndarray]:
    """Drawn faces, of which every second one has a brighter square: FAKE, and MANIPULATED there.

    Args:
        size: (height, width) in pixels.

    Returns:
        What `train.fit.step` takes: `image` (N, H, W, 3) uint8, `mask` (N, H, W) uint8, `labelled`,
        `is_real` and `stop` (N,).
    """
    drawn = ProceduralPortraits(_PICTURES, 0)
    image = np.stack([resized(drawn[number][1], size) for number in range(_PICTURES)])
    mask = np.zeros((_PICTURES, *size), np.uint8)
    mask[::2, size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 1
    return {
        "image": np.where(mask[..., None] == 1, 128 + image // 2, image).astype(np.uint8),
        "mask": mask,
        "labelled": np.ones(_PICTURES, bool),
        "is_real": (np.arange(_PICTURES) % 2).astype(np.float32),
        "stop": np.zeros(_PICTURES, np.int32),
    }


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
    recipe = Recipe()
    optimizer = make_optimizer(recipe, lambda _: recipe.learning_rate)
    model = UNet(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
    graphdef, weights, batch_stats = split(model)
    step: Any = distributed.map_step(make_step(graphdef, optimizer, Objective()), devices)
    state = distributed.replicate(first_state(weights, batch_stats, optimizer), devices)
    frames = pictures(config.input_size)
    compilations: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compilations.append(event) if _COMPILATION in event else None
    )
    running: collections.deque[Any] = collections.deque()
    losses, ends, compiled = [], [time.perf_counter()], 0
    for number in tqdm(range(steps), unit="step", disable=None):
        at = np.arange(number * batch_size, (number + 1) * batch_size) % _PICTURES
        batch = distributed.shard_batch({name: of[at] for name, of in frames.items()}, devices)
        totals = distributed.replicate(zero_totals(), devices)
        state, totals, *_ = step(state, totals, batch)
        running.append(totals.loss)
        # As in training, the next step is asked for before the last one is done.
        if number == 0 or len(running) > 1:
            losses.append(float(distributed.fetch(running.popleft())))
            ends.append(time.perf_counter())
        if number == 0:
            compiled = len(compilations)
    losses.extend(float(distributed.fetch(loss)) for loss in running)
    ends.append(time.perf_counter())
    if not np.isfinite(losses).all():
        bad = int(np.flatnonzero(~np.isfinite(losses))[0]) + 1
        raise InputError(f"the loss of step {bad} is not finite; try --dtype float32")
    seconds = np.diff(ends)
    stats = devices[0].memory_stats()
    peak = stats["peak_bytes_in_use"] / 2**30 if stats else peak_memory()
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
        "peak_memory_gib": round(peak, 3),
        "compilations_after_the_first_step": len(compilations) - compiled,
        "losses": {"first": losses[0], "last": losses[-1]},
    }


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steps",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    published = PUBLISHED[_LAYOUT]
    parser.add_argument("--steps", type=at_least_one, default=200, help="of training")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of convolutions")
    parser.add_argument("--batch-size", type=at_least_one, default=32, help="pictures a step")
    parser.add_argument(
        "--base-width", type=at_least_one, default=published.base_width, help="the full size: 64"
    )
    parser.add_argument(
        "--size",
        type=image_size,
        default=str(published.image_size),
        help="height x width in pixels, or one number",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write")
    args = parser.parse_args(argv)
    if args.steps < 2:
        raise InputError("--steps 1: expected at least 2; the first one is mostly compilation")
    try:
        config = dataclasses.replace(published, base_width=args.base_width, image_size=args.size)
    except ValueError as error:
        raise InputError(f"there is no such network: {error}") from error
    keep_compiled()
    asked = {k: v for k, v in vars(args).items() if k != "out"}
    found = train(config, args.dtype, args.batch_size, args.steps)
    text = json.dumps({"layout": _LAYOUT, **asked, **found, "made_by": made_by()}, indent=1)
    print(text)
    if args.out is not None:
        with staged_file(args.out) as stage:
            stage.write_text(text + "\n")


if __name__ == "__main__":
    main()
