"""Layers, each computed and initialised as its PyTorch namesake."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from flax_unet.nn.batch_norm import apply_norm, batch_norm
from flax_unet.nn.conv import convolve

MOMENTUM = 0.1  # PyTorch's: the weight of the new batch in the running statistics


def torch_uniform(fan_in: int) -> nnx.Initializer:
    """PyTorch's default for kernels and biases alike: uniform in ±1/sqrt(fan_in).

    It is `kaiming_uniform_(a=sqrt(5))` of `torch.nn.modules.conv` and `.linear`, simplified.
    """
    bound = fan_in**-0.5

    def initializer(key, shape, dtype=jnp.float32, out_sharding=None):
        # Drawn in a row: the same values, for which XLA compiles a tenth as long on CPUs.
        values = jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound)
        return values.reshape(shape, out_sharding=out_sharding)

    return initializer


class Conv(nnx.Module):
    """A convolution of stride 1 that keeps height and width."""

    def __init__(
        self,
        features_in: int,
        features_out: int,
        size: int,
        *,
        bias: bool = True,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        initializer = torch_uniform(features_in * size * size)
        shape = (size, size, features_in, features_out)
        self.kernel = nnx.Param(initializer(rngs.params(), shape))
        self.bias = nnx.Param(initializer(rngs.params(), (features_out,))) if bias else None
        self.dtype = dtype

    def __call__(self, *parts: jax.Array) -> jax.Array:
        """(B, H, W, C) each, with features_in channels in all -> (B, H, W, features_out)."""
        x = convolve([part.astype(self.dtype) for part in parts], self.kernel.astype(self.dtype))
        return x if self.bias is None else x + self.bias.astype(self.dtype)


def linear(features_in: int, features_out: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Linear:
    """A fully connected layer."""
    initializer = torch_uniform(features_in)
    return nnx.Linear(
        features_in,
        features_out,
        dtype=dtype,
        precision=jax.lax.Precision.HIGHEST,
        kernel_init=initializer,
        bias_init=initializer,
        rngs=rngs,
    )


class BatchNorm(nnx.Module):
    """Batch normalisation over (B, H, W) with PyTorch's statistics.

    It normalises a batch with its biased variance and stores the unbiased one (n/(n-1)).
    Statistics, scale and shift are float32 whatever the dtype of the input and output.
    """

    def __init__(self, features: int) -> None:
        self.scale = nnx.Param(jnp.ones(features, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(features, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(features, jnp.float32))
        self.use_running_average = False  # `eval()` and `train()` of nnx.Module switch it
        self.axis_name: str | None = None  # of jax.pmap: its devices share a batch's statistics

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x (B, H, W, C); in training it also updates the running statistics.

        Raises:
            ValueError: in training, a batch with one value a channel, whose variance is undefined.
        """
        scale, shift = self.scale[...], self.bias[...]
        if self.use_running_average:
            return apply_norm(x, self.mean[...], self.var[...], scale, shift)
        count = x.size // x.shape[-1]
        if self.axis_name is not None:
            count *= jax.lax.axis_size(self.axis_name)
        if count < 2:
            raise ValueError(
                f"BatchNorm in training needs more than one value a channel; got {x.shape}"
            )
        normal, mean, var = batch_norm(x, scale, shift, self.axis_name)
        self.mean[...] += MOMENTUM * (mean - self.mean[...])
        self.var[...] += MOMENTUM * (var * (count / (count - 1)) - self.var[...])
        return normal


class DoubleConv(nnx.Module):
    """Twice: a 3x3 convolution, batch normalisation, ReLU.

    With `remat` set, the gradient computes all of it anew rather than keep the maps between.
    """

    def __init__(
        self,
        features_in: int,
        features_mid: int,
        features_out: int,
        *,
        bias: bool,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv1 = Conv(features_in, features_mid, 3, bias=bias, dtype=dtype, rngs=rngs)
        self.norm1: BatchNorm | None = BatchNorm(features_mid)  # None once it is folded
        self.conv2 = Conv(features_mid, features_out, 3, bias=bias, dtype=dtype, rngs=rngs)
        self.norm2: BatchNorm | None = BatchNorm(features_out)
        self.remat = False

    def __call__(self, *parts: jax.Array) -> jax.Array:
        """(B, H, W, C) each, with features_in channels in all -> (B, H, W, features_out)."""
        return (nnx.remat(_twice) if self.remat else _twice)(self, *parts)


def _twice(layer: DoubleConv, *parts: jax.Array) -> jax.Array:
    x = layer.conv1(*parts)
    x = nnx.relu(x if layer.norm1 is None else layer.norm1(x))
    x = layer.conv2(x)
    return nnx.relu(x if layer.norm2 is None else layer.norm2(x))


def max_pool(x: jax.Array) -> jax.Array:
    """(B, H, W, C) -> (B, H/2, W/2, C), the largest of each 2x2 pixels, or NaN if one is.

    As in PyTorch, the gradient goes to the first of equal ones. It is made of comparisons, whose
    gradient costs a few passes; that of a window's reduction goes through an index of each pixel.
    """
    n, h, w, c = x.shape
    blocks = x.reshape(n, h // 2, 2, w // 2, 2, c)
    above, below = (_larger(blocks[:, :, row, :, 0], blocks[:, :, row, :, 1]) for row in range(2))
    return _larger(above, below)


def _larger(first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.where((second > first) | jnp.isnan(second), second, first)


class ConvTranspose(nnx.Module):
    """A transposed convolution 2x2 of stride 2, as a matrix product and a pixel shuffle.

    Windows of stride 2 do not overlap, so each pixel of the input makes a 2x2 block of the
    output by itself; a dilated convolution computes the same many times slower.
    """

    def __init__(
        self, features_in: int, features_out: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        # PyTorch takes the fan-in of a transposed kernel from its output channels.
        initializer = torch_uniform(features_out * 2 * 2)
        self.kernel = nnx.Param(initializer(rngs.params(), (2, 2, features_in, features_out)))
        self.bias = nnx.Param(initializer(rngs.params(), (features_out,)))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, H, W, features_in) -> (B, 2H, 2W, features_out)."""
        n, h, w, _ = x.shape
        kernel = self.kernel[...].astype(self.dtype)
        x = x.astype(self.dtype)
        rows = [
            jnp.einsum("nhwi,lio->nhwlo", x, row, precision=jax.lax.Precision.HIGHEST)
            for row in kernel  # each gives every second row of the output
        ]
        blocks = jnp.stack(rows, axis=2)
        return blocks.reshape(n, 2 * h, 2 * w, -1) + self.bias[...].astype(self.dtype)


def _interpolation(size: int, dtype: np.dtype) -> np.ndarray:
    """The weights (2 size, size) of linear interpolation to twice the size, corners aligned."""
    # Positions are rounded as PyTorch rounds them: at 100 pixels float32 is off by 1e-5 already.
    step = np.asarray(size - 1, dtype) / np.asarray(2 * size - 1, dtype)
    position = step * np.arange(2 * size, dtype=dtype)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(size, dtype=dtype)))


def upsample_bilinear(x: jax.Array) -> jax.Array:
    """(B, H, W, C) -> (B, 2H, 2W, C) as `nn.Upsample(scale_factor=2, align_corners=True)` does."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    rows, columns = (_interpolation(size, wide.dtype) for size in x.shape[1:3])
    highest = jax.lax.Precision.HIGHEST
    wide = jnp.einsum("ih,nhwc->niwc", rows, wide, precision=highest)
    return jnp.einsum("jw,nhwc->nhjc", columns, wide, precision=highest).astype(x.dtype)
