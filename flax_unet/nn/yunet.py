"""YuNet, which finds faces (Wu, Peng and Yu, 2023; the weights are those of OpenCV's zoo).

Its unit is a pointwise and a depthwise convolution. At each of three strides, a cell has the
numbers of one face: is it one, is something there, its box and five landmarks.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

STRIDES = 8, 16, 32  # pixels a cell
HEADS = {"cls": 1, "bbox": 4, "obj": 1, "kps": 10}  # numbers of a cell
ROW = 15  # numbers of a candidate: left, top, width, height, five times x and y, score
STEM = 3, 16  # channels
# Channels of the units' results. Maps are halved before each of these stages but the first.
STAGES = (16,), (16, 32, 32, 64), (64, 64), (64, 64), (64, 64, 64)
NECK = 64, 64  # of the units that follow the sums at strides 16 and 8
_MOST = 5000  # candidates of a picture, as in OpenCV
_HIGHEST = lax.Precision.HIGHEST  # float32 means float32 on every device


class Conv(NamedTuple):
    """The weights of a convolution."""

    kernel: jax.Array  # (height, width, in, out); of a depthwise one (height, width, 1, out)
    bias: jax.Array  # (out,)


class Unit(NamedTuple):
    """A pointwise and a depthwise convolution."""

    pointwise: Conv
    depthwise: Conv


class YuNet(NamedTuple):
    """All weights, float32."""

    stem: Conv
    stages: Sequence[Sequence[Unit]]
    neck: Sequence[Unit]
    heads: Sequence[Unit]  # for each stride; their channels are those of `HEADS`, in this order


def candidates(weights: YuNet, pictures: jax.Array, sizes: jax.Array) -> jax.Array:
    """What may be faces, each several times.

    Args:
        weights: of YuNet.
        pictures: (N, height, width, 3) uint8, the channels red, green, blue; both sides multiples
            of 32.
        sizes: (N, 2) int32: the height and width of the part of each picture, from its left upper
            corner, that is searched as if it were the whole; multiples of 32. The rest is black.

    Returns:
        (N, K, ROW) float32, the highest scores first. Positions are in pixels, scores in [0, 1].
    """
    x = pictures[..., ::-1].astype(jnp.float32)  # blue, green, red
    x = jax.nn.relu(_convolved(x, weights.stem))
    maps = []
    for number, units in enumerate(weights.stages):
        x = _halved(x) if number else x
        inside = _inside(x, pictures, sizes)
        for unit in units:
            x = jax.nn.relu(_applied(unit, x, inside))
        maps.append((x, inside))
    (fine, in_fine), (middle, in_middle), (coarse, in_coarse) = maps[-3:]
    middle = jax.nn.relu(_applied(weights.neck[0], middle + _doubled(coarse), in_middle))
    fine = jax.nn.relu(_applied(weights.neck[1], fine + _doubled(middle), in_fine))
    levels = (fine, in_fine), (middle, in_middle), (coarse, in_coarse)
    found = jnp.concatenate(
        [
            _rows(_applied(unit, x, inside), inside, stride)
            for unit, (x, inside), stride in zip(weights.heads, levels, STRIDES, strict=True)
        ],
        1,
    )
    best = lax.top_k(found[..., -1], min(_MOST, found.shape[1]))[1]
    return jnp.take_along_axis(found, best[..., None], 1)


def _inside(x: jax.Array, pictures: jax.Array, sizes: jax.Array) -> jax.Array:
    """Which cells of maps lie in the searched part: (N, height, width, 1)."""
    height, width = x.shape[1:3]
    ends = sizes // (pictures.shape[1] // height)
    rows = jnp.arange(height) < ends[:, :1]
    columns = jnp.arange(width) < ends[:, 1:]
    return (rows[:, :, None] & columns[:, None])[..., None]


def _rows(cells: jax.Array, inside: jax.Array, stride: int) -> jax.Array:
    """What the cells say, (N, rows, columns, 16), as candidates, (N, rows * columns, ROW)."""
    count, height, width, _ = cells.shape
    ends = list(itertools.accumulate(HEADS.values()))[:-1]
    is_face, box, is_there, points = jnp.split(cells, ends, -1)
    corner = jnp.stack(jnp.meshgrid(jnp.arange(width), jnp.arange(height)), -1)  # x, y
    size = stride * jnp.exp(box[..., 2:])
    place = stride * (corner + box[..., :2]) - size / 2
    points = stride * (jnp.tile(corner, 5) + points)
    score = inside * jnp.sqrt(jax.nn.sigmoid(is_face) * jax.nn.sigmoid(is_there))
    return jnp.concatenate([place, size, points, score], -1).reshape(count, -1, ROW)


def _convolved(x: jax.Array, conv: Conv) -> jax.Array:
    """The 3x3 convolution with a stride of 2 that comes first."""
    return conv.bias + lax.conv_general_dilated(
        x,
        conv.kernel,
        window_strides=(2, 2),
        padding=[(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=_HIGHEST,
    )


def _applied(unit: Unit, x: jax.Array, inside: jax.Array) -> jax.Array:
    kernel, bias = unit.pointwise
    x = jnp.einsum("nhwi,io->nhwo", x, kernel[0, 0], precision=_HIGHEST) + bias
    x = jnp.where(inside, x, 0)  # as at the edge of a map
    # A depthwise convolution as nine products: XLA's own takes four times as long on a CPU.
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel, bias = unit.depthwise
    return bias + sum(
        padded[:, i : i + height, j : j + width] * kernel[i, j, 0]
        for i in range(3)
        for j in range(3)
    )


def _halved(x: jax.Array) -> jax.Array:
    """The largest of each 2 x 2 values."""
    count, height, width, channels = x.shape
    return x.reshape(count, height // 2, 2, width // 2, 2, channels).max((2, 4))


def _doubled(x: jax.Array) -> jax.Array:
    return x.repeat(2, 1).repeat(2, 2)
