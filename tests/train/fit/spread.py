"""A process of training, for the tests: prints losses and gradients on each number of devices.

In float64, and for the first number of devices in float32 too.

python -m tests.train.fit.spread DEVICES[,DEVICES...] [ADDRESS PROCESSES PROCESS]
"""

import json
import sys
from typing import Any

import jax

COUNTS = [int(count) for count in sys.argv[1].split(",")]
jax.config.update("jax_num_cpu_devices", max(COUNTS))
jax.config.update("jax_enable_x64", True)
if len(sys.argv) > 2:
    jax.distributed.initialize(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from benchmarks.training_parity import random_batches  # noqa: E402
from flax_unet import UNetConfig  # noqa: E402
from flax_unet.checkpoint import store  # noqa: E402
from flax_unet.checkpoint.store import flat  # noqa: E402
from train import distributed  # noqa: E402
from train.fit.losses import Objective  # noqa: E402
from train.fit.step import first_state, make_step, split, zero_totals  # noqa: E402

STEPS, SIZE, BATCH = 20, 16, 8
CONFIG = UNetConfig(base_width=4, levels=1, decoder_levels=1, image_size=SIZE)


def weights() -> dict:
    """Values of no meaning; drawing the network's own would be most of the time."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.uniform(0.2 if leaf.ndim == 1 else -0.3, 0.3, leaf.shape),
        store.abstract_weights(CONFIG),
    )


def recording() -> optax.GradientTransformation:
    """Changes nothing, and keeps the last gradient as its state."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del state, params
        return updates, updates

    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)


def train(dtype: str, devices: list[distributed.Device]) -> tuple[list, dict]:
    """Losses of each step, and the gradient of the first."""
    distributed.connect(devices)
    process, processes = distributed.process()
    share = BATCH // processes
    values = jax.tree.map(lambda leaf: leaf.astype(dtype), weights())
    model = store.build(CONFIG, values, dtype=jnp.dtype(dtype))
    graphdef, params, statistics = split(model, sync_batch_norm=True)
    optimizer = optax.chain(recording(), optax.adam(1e-5))  # the published rate
    step = distributed.map_step(make_step(graphdef, optimizer, Objective(dice=True)), devices)
    state = distributed.replicate(first_state(params, statistics, optimizer), devices)
    losses, gradient = [], {}
    for batch in random_batches(STEPS, SIZE, BATCH, seed=0):
        # Masks that are not known fall unevenly on the devices.
        known = {"labelled": np.arange(BATCH) != 1, "stop": np.zeros(BATCH, np.int32)}
        mine = {k: x[process * share :][:share] for k, x in (batch | known).items()}
        totals = distributed.replicate(zero_totals(), devices)
        state, totals, *_ = step(state, totals, distributed.shard_batch(mine, devices))
        losses.append([float(x) for x in distributed.fetch((totals.mask_loss, totals.class_loss))])
        gradient = gradient or flat(distributed.fetch(state.optimizer[0]))
    return losses, {path: leaf.tolist() for path, leaf in gradient.items()}


if __name__ == "__main__":
    for count in COUNTS:
        devices = jax.local_devices()[:count]
        losses, gradient = train("float64", devices)
        narrow = train("float32", devices)[0] if count == COUNTS[0] else []
        if distributed.process()[0] == 0:
            print(json.dumps({"float64": losses, "float32": narrow, "gradient": gradient}))
