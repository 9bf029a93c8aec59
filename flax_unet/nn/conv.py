"""Convolutions in the form that is fastest where they run; every form computes the same sums.

One of 1x1 is a matrix product. Of the others, accelerators get XLA's own. On CPUs four things cost
more than they need to, and are done otherwise:

- XLA has two libraries for convolutions. The one that it prefers, YNNPACK, unfolds whole maps into
  memory that is asked of the system anew in each call. The other one, Eigen over oneDNN's products,
  unfolds what a cache holds. It is taken where the output is taller than the input, so that one row
  more is asked for, and left off; not in float64, which it does not take.
- A matrix product with few columns, of a kernel with few output channels, leaves registers empty.
  There two pixels side by side are computed as one of twice as many channels, by a kernel that is a
  column wider: a third more products, but they and the unfolding take less time.
- For a kernel's gradient XLA goes through large maps once for each of its elements. Here the sum is
  over blocks of pixels whose columns a cache holds, each one matrix product.
- For the input's gradient XLA turns the kernel around and transposes it. Where there are fewer
  pixels than output channels, so that this is most of the work, their columns' gradients come from
  one matrix product with the kernel as it is.

Small gradients stay XLA's. docs/benchmarks.md has what is saved.
"""

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_HIGHEST = jax.lax.Precision.HIGHEST  # float32 means float32 on every device
_NARROW = 16  # output channels that leave a matrix product's registers empty
_LEAST_PRODUCTS = 2**23  # at each place of a kernel; for fewer, compiling takes what is saved
_CACHED_BYTES = 2**20  # of columns that a processor's cache holds
_MOST_BYTES = 2**26  # of columns that are not too much memory
_LEAST_PIXELS = 196  # of a block: adding the product of a smaller one takes longer than the product

_Parts = tuple[jax.Array, ...]


def convolve(parts: Sequence[jax.Array], kernel: jax.Array) -> jax.Array:
    """The convolution of maps side by side, of stride 1; height and width are kept.

    It has a gradient, but no forward-mode derivative (`jax.jvp`), and inside `jax.shard_map` the
    gradient needs `check_vma=False`.

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


def _plain(
    parts: _Parts, kernel: jax.Array, rows_below: int = 0, columns_each: int = 1
) -> jax.Array:
    margin = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        _side_by_side(parts),
        kernel,
        window_strides=(1, columns_each),
        padding=((margin, margin + rows_below), (margin, margin)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=_HIGHEST,
    )


def _plain_gradients(
    parts: _Parts, kernel: jax.Array, gradient: jax.Array
) -> tuple[_Parts, jax.Array]:
    return jax.vjp(_plain, parts, kernel)[1](gradient)


def _on_cpu(parts: _Parts, kernel: jax.Array) -> jax.Array:
    if kernel.dtype == np.float64:
        return _plain(parts, kernel)
    _, _, channels, features = kernel.shape
    if features <= _NARROW and channels < 2 * _NARROW and parts[0].shape[2] % 2 == 0:
        return _in_pairs(parts, kernel)
    return _plain(parts, kernel, rows_below=1)[:, :-1]


def _in_pairs(parts: _Parts, kernel: jax.Array) -> jax.Array:
    """Computes two pixels side by side as one of twice as many channels."""
    rows, columns, channels, features = kernel.shape
    of_first, of_second = (
        jnp.pad(kernel, ((0, 0), (before, 1 - before), (0, 0), (0, 0))) for before in (0, 1)
    )
    both = jnp.stack([of_first, of_second], axis=3)
    both = both.reshape(rows, columns + 1, channels, 2 * features)
    pairs = _plain(parts, both, rows_below=1, columns_each=2)[:, :-1]
    return pairs.reshape(*parts[0].shape[:3], features)


def _gradients_on_cpu(
    parts: _Parts, kernel: jax.Array, gradient: jax.Array
) -> tuple[_Parts, jax.Array]:
    if gradient.size * kernel.shape[2] < _LEAST_PRODUCTS:
        return _plain_gradients(parts, kernel, gradient)
    of_kernel = _kernel_gradient(_side_by_side(parts), kernel, gradient)
    if gradient.size < gradient.shape[-1] ** 2:  # fewer pixels than channels
        of_x = _by_columns(kernel, gradient)
    else:  # by a convolution with the kernel turned around
        of_x = _on_cpu((gradient,), jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    ends = np.cumsum([part.shape[-1] for part in parts])[:-1]
    return tuple(jnp.split(of_x, ends, axis=-1)), of_kernel


def _by_columns(kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """The input's gradient (B, H, W, C): each output's (B, H, W, D) is added to its window."""
    size, _, channels, features = kernel.shape
    wide = jnp.promote_types(kernel.dtype, jnp.float32)
    columns = jnp.matmul(
        gradient.reshape(-1, features),
        kernel.reshape(-1, features).T,
        precision=_HIGHEST,
        preferred_element_type=wide,
    ).reshape(*gradient.shape[:3], size, size, channels)
    padding = [(at, size - 1 - at) for at in range(size)]
    spread = functools.reduce(
        operator.add,
        (
            jnp.pad(columns[..., i, j, :], ((0, 0), padding[i], padding[j], (0, 0)))
            for i in range(size)
            for j in range(size)
        ),
    )
    margin = size // 2
    height, width = gradient.shape[1:3]
    return spread[:, margin : margin + height, margin : margin + width].astype(gradient.dtype)


def _kernel_gradient(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient (K, K, C, D) of a kernel, by that of the output (B, H, W, D)."""
    size, _, channels, features = kernel.shape
    batch, height, width, _ = x.shape
    pictures, rows = _block(batch, height, width, size * size * channels * x.dtype.itemsize)
    pixels = pictures * rows * width
    margin = size // 2
    padded = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def add(total: jax.Array, block: jax.Array) -> tuple[jax.Array, None]:
        start = (block // (height // rows) * pictures, block % (height // rows) * rows, 0, 0)
        seen = (pictures, rows + 2 * margin, width + 2 * margin, channels)
        around = jax.lax.dynamic_slice(padded, start, seen)
        columns = jnp.concatenate(
            [around[:, i : i + rows, j : j + width] for i in range(size) for j in range(size)], -1
        )
        part = jax.lax.dynamic_slice(gradient, start, (pictures, rows, width, features))
        product = jnp.matmul(  # this way around takes a fifth less than the other
            part.reshape(pixels, -1).T,
            columns.reshape(pixels, -1),
            precision=_HIGHEST,
            preferred_element_type=wide,
        )
        return total + product, None

    zero = jnp.zeros((features, size * size * channels), wide)
    total, _ = jax.lax.scan(add, zero, jnp.arange(x.size // channels // pixels))
    return total.T.reshape(kernel.shape).astype(kernel.dtype)


def _block(batch: int, height: int, width: int, column: int) -> tuple[int, int]:
    """How many pictures and rows a block has: rows of one picture, or whole pictures.

    As many as are cached, but at least _LEAST_PIXELS, unless these take more than _MOST_BYTES; the
    columns of a pixel are `column` bytes.
    """
    blocks = [(1, rows) for rows in range(1, height + 1) if height % rows == 0]
    blocks += [(pictures, height) for pictures in range(2, batch + 1) if batch % pictures == 0]
    pixels = {block: block[0] * block[1] * width for block in blocks}
    fitting = [block for block in blocks if pixels[block] * column <= _MOST_BYTES] or blocks[:1]
    enough = [block for block in fitting if pixels[block] >= _LEAST_PIXELS] or fitting[-1:]
    cached = [block for block in fitting if pixels[block] * column <= _CACHED_BYTES]
    return max(enough[:1] + cached[-1:], key=pixels.__getitem__)
