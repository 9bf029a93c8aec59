"""What the forms of `flax_unet.nn.conv` and `layers.max_pool` save on a CPU, beside XLA's own.

Each layer by itself at the sizes of ynet-224, then the whole network, the forms taking turns.
"""

import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from benchmarks.contenders import OURS, make, subject_of
from benchmarks.machine import benchmark, in_turn, report
from benchmarks.subject import network
from flax_unet.nn import inference, layers
from flax_unet.nn.conv import convolve

_LEVELS = ((224, 64), (112, 128), (56, 256), (28, 512), (14, 1024))  # pixels a side, channels


def xlas_own(parts: Sequence[jax.Array], kernel: jax.Array) -> jax.Array:
    """`convolve` as XLA computes it; convolutions of 1x1 stay the project's."""
    if kernel.shape[:2] == (1, 1):
        return convolve(parts, kernel)
    return jax.lax.conv_general_dilated(
        jnp.concatenate(parts, axis=-1),
        kernel,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )


def _gradient(form: Callable[..., jax.Array], number: int) -> Callable[..., jax.Array]:
    """The gradient of a map (0) or a kernel (1) alone: what is not used is not computed."""
    return lambda x, kernel, g: jax.vjp(lambda x, k: form([x], k), x, kernel)[1](g)[number]


def _layers(batch: int, side: int, channels: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Calls by form, for each layer of a level."""
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def calls(theirs: Callable[..., Any], ours: Callable[..., Any], *arrays: Any) -> dict[str, Any]:
        forms = {"XLA's": theirs, "ours": ours}
        return {name: functools.partial(jax.jit(form), *arrays) for name, form in forms.items()}

    skip, up = (noise(batch, side, side, channels) for _ in range(2))
    wide, kernel = noise(3, 3, 2 * channels, channels), noise(3, 3, channels, channels)
    yield "convolution of two maps", calls(xlas_own, convolve, [skip, up], wide)
    for number, of in enumerate(("the input", "the kernel")):
        gradients = (_gradient(form, number) for form in (xlas_own, convolve))
        yield f"gradient of {of}", calls(*gradients, skip, kernel, up)
    theirs = jax.grad(lambda x: nnx.max_pool(x, (2, 2), strides=(2, 2)).sum())
    ours = jax.grad(lambda x: layers.max_pool(x).sum())
    yield "max-pool and its gradient", calls(theirs, ours, skip)


def _network(task: str, batch: int) -> dict[str, Any]:
    """Calls of the whole network by form; pooling is ours in both."""
    subject = subject_of(network()).take(batch)
    ours = make(OURS, task, subject, "float32").call
    inference.program.cache_clear()  # or it would share its program with ours
    with mock.patch.object(layers, "convolve", xlas_own):
        theirs = make(OURS, task, subject, "float32").call
        theirs()
    return {"XLA's": theirs, "ours": ours}


@benchmark(
    batch_size=(8, "of the layers and of inference"),
    rounds=(5, "turns of each"),
    training_batch=(8, "of a training step"),
)
def main(*, batch_size: int, rounds: int, training_batch: int) -> None:
    """Runs the command line."""

    def milliseconds(calls: dict[str, Any]) -> dict[str, float]:
        times = in_turn(calls, rounds)
        return {name: round(1e3 * statistics.median(of), 1) for name, of in times.items()}

    found: dict[str, Any] = {}
    for side, channels in tqdm(_LEVELS, unit="level", disable=None):
        for name, calls in _layers(batch_size, side, channels):
            level = f"{side} px, {channels} channels"
            found.setdefault(name, {})[level] = milliseconds(calls)
    for task, batch in (("inference", batch_size), ("training", training_batch)):
        found[f"the network, {task}, batch {batch}"] = milliseconds(_network(task, batch))
    report({"milliseconds": found})


if __name__ == "__main__":
    main()
