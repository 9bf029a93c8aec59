"""Convolutions in the form that is fastest where they run; every form computes the same sums.

One of 1x1 is a matrix product. Of the others, accelerators get XLA's own. On CPUs two things cost
more than they need to, and are done otherwise:

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

_Parts = tuple[jax.Array, ...]


def convolve(parts: Sequence[jax.Array], kernel: jax.Array) -> jax.Array:
    """The convolution of maps side by side, of stride 1; height and width are kept.

    It has a gradient, but no forward-mode derivative (`jax.jvp`).

    Args:
        parts: (B, H, W, C) each, of any C, and of the kernel's dtype.
        kernel: (K, K, sum of C, D), K odd; its input channels are the parts' in order.

    Returns:
        (B, H, W, D).
    """
    if kernel.shape[:2] == (1, 1):
        return jnp.matmul(_side_by_side(parts), kernel[0, 0], precision=_HIGHEST)
    return _convolve(tuple(parts), kernel)


def _side_by_side(parts: Sequence[jax.Array]) -> jax.Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


@jax.custom_vjp
def _convolve(parts: _Parts, kernel: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(parts, kernel, cpu=_on_cpu, default=_plain)


def _forward(parts: _Parts, kernel: jax.Array) -> tuple[jax.Array, tuple[_Parts, jax.Array]]:
    return _convolve(parts, kernel), (parts, kernel)


def _backward(saved: tuple[_Parts, jax.Array], gradient: jax.Array) -> tuple[_Parts, jax.Array]:
    return jax.lax.platform_dependent(
        *saved, gradient, cpu=_gradients_on_cpu, default=_plain_gradients
    )


_convolve.defvjp(_forward, _backward)


def _plain(parts: _Parts, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        _side_by_side(parts),
        kernel,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=_HIGHEST,
    )


def _plain_gradients(
    parts: _Parts, kernel: jax.Array, gradient: jax.Array
) -> tuple[_Parts, jax.Array]:
    return jax.vjp(_plain, parts, kernel)[1](gradient)


def _split(parts: _Parts, kernel: jax.Array) -> list[tuple[_Parts, jax.Array]]:
    """The convolutions whose sum is the one asked for."""
    exact = kernel.dtype.itemsize >= 4  # in bfloat16 each half would be rounded before the sum
    if len(parts) == 1 or kernel.shape[2] < _MANY or not exact:
        return [(parts, kernel)]
    # Together, or one would run beside earlier layers: two at a time are slower than in turn.
    parts = jax.lax.optimization_barrier(parts)
    ends = np.cumsum([part.shape[-1] for part in parts])[:-1]
    kernels = jnp.split(kernel, ends, axis=2)
    return [((part,), of) for part, of in zip(parts, kernels, strict=True)]


def _on_cpu(parts: _Parts, kernel: jax.Array) -> jax.Array:
    return functools.reduce(operator.add, (_plain(*each) for each in _split(parts, kernel)))


def _gradients_on_cpu(
    parts: _Parts, kernel: jax.Array, gradient: jax.Array
) -> tuple[_Parts, jax.Array]:
    of_parts, of_kernels = [], []
    for some, of in _split(parts, kernel):
        of_some, of_kernel = _plain_gradients(some, of, gradient)
        if min(gradient.shape[1:3]) >= _LEAST_SIDE:
            of_kernel = _kernel_gradient(_side_by_side(some), of, gradient)
        of_parts += of_some
        of_kernels.append(of_kernel)
    return tuple(of_parts), jnp.concatenate(of_kernels, axis=2)


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
