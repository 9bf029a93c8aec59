"""Convolutions in the form that is fastest where they run; every form computes the same sums.

On accelerators that is XLA's own. On CPUs two things cost more than they need to, and are done
otherwise:

- One kernel over many channels is slower than two over half of them each, so a wide decoder's, over
  a skip connection and what comes from below, is two whose results are added. Nothing has to be
  concatenated then, either.
- For a kernel's gradient XLA goes through large maps once for each of its elements. Here the sum is
  over blocks of rows that a processor's cache holds, each one matrix product.

docs/benchmarks.md has what they save.
"""

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_HIGHEST = jax.lax.Precision.HIGHEST  # float32 means float32 on every device
_MANY = 128  # channels; one convolution over fewer is no slower than two
_CACHED = 2**21  # bytes of a block's columns
_LEAST_SIDE = 56  # pixels; on smaller maps XLA's own gradient is no slower


def convolve(parts: Sequence[jax.Array], kernel: jax.Array) -> jax.Array:
    """The convolution of maps side by side, of stride 1; height and width are kept.

    It has a gradient, but on CPUs no forward-mode derivative (`jax.jvp`).

    Args:
        parts: (B, H, W, C) each, of any C, and of the kernel's dtype.
        kernel: (K, K, sum of C, D), K odd; its input channels are the parts' in order.

    Returns:
        (B, H, W, D).
    """
    on_cpu = jax.default_backend() == "cpu"
    exact = kernel.dtype.itemsize >= 4  # in bfloat16 each half would be rounded before the sum
    if on_cpu and exact and len(parts) > 1 and kernel.shape[2] >= _MANY:
        # Together, or one would run beside earlier layers: two at a time are slower than in turn.
        parts = jax.lax.optimization_barrier(list(parts))
        ends = np.cumsum([part.shape[-1] for part in parts])[:-1]
        kernels = jnp.split(kernel, ends, axis=2)
        return functools.reduce(operator.add, map(_on_cpu, parts, kernels))
    x = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)
    return _on_cpu(x, kernel) if on_cpu else _plain(x, kernel)


def _plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=_HIGHEST,
    )


@jax.custom_vjp
def _on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    if kernel.shape[:2] == (1, 1):
        return jnp.matmul(x, kernel[0, 0], precision=_HIGHEST)
    return _plain(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _on_cpu(x, kernel), (x, kernel)


def _backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    of_plain = jax.vjp(_plain, x, kernel)[1]
    if kernel.shape[:2] == (1, 1) or min(x.shape[1:3]) < _LEAST_SIDE:
        return of_plain(gradient)
    return of_plain(gradient)[0], _kernel_gradient(x, kernel, gradient)


_on_cpu.defvjp(_forward, _backward)


def _kernel_gradient(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient (K, K, C, D) of a kernel, by that of the output (B, H, W, D)."""
    size, _, channels, features = kernel.shape
    batch, height, width, _ = x.shape
    row = width * size * size * channels * x.dtype.itemsize  # bytes of its columns
    fitting = [n for n in range(1, height + 1) if height % n == 0 and n * row <= _CACHED]
    rows = max(fitting, default=1)
    blocks = height // rows
    margin = size // 2
    padded = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))

    def add(total: jax.Array, block: jax.Array) -> tuple[jax.Array, None]:
        start = (block // blocks, block % blocks * rows, 0, 0)
        seen = (1, rows + 2 * margin, width + 2 * margin, channels)
        around = jax.lax.dynamic_slice(padded, start, seen)[0]
        columns = jnp.concatenate(
            [around[i : i + rows, j : j + width] for i in range(size) for j in range(size)], -1
        )
        part = jax.lax.dynamic_slice(gradient, start, (1, rows, width, features))
        product = jnp.matmul(
            columns.reshape(rows * width, -1).T,
            part.reshape(rows * width, -1),
            precision=_HIGHEST,
            preferred_element_type=total.dtype,
        )
        return total + product, None

    wide = jnp.promote_types(x.dtype, jnp.float32)
    zero = jnp.zeros((size * size * channels, features), wide)
    total, _ = jax.lax.scan(add, zero, jnp.arange(batch * blocks))
    return total.reshape(kernel.shape).astype(kernel.dtype)
