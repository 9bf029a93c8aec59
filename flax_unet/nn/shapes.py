"""The shapes of a network's weights, without JAX."""

import functools
import itertools
from collections.abc import Iterator

from flax_unet.nn.config import MASK_CLASSES, UNetConfig

Shape = tuple[int, ...]


@functools.cache
def weight_shapes(config: UNetConfig) -> dict[str, Shape]:
    """The shape of each parameter and statistic by its path, such as `inc/conv1/kernel`."""
    return dict(_shapes(config))


def _shapes(config: UNetConfig) -> Iterator[tuple[str, Shape]]:
    widths, bias = config.widths, config.conv_bias
    yield from _double_conv("inc", config.in_channels, widths[0], widths[0], bias)
    for level in range(1, config.levels + 1):
        width = widths[level]
        yield from _double_conv(f"down{level}", widths[level - 1], width, width, bias)
    if config.classifier_widths is not None:
        sizes = (widths[-1], *config.classifier_widths, 1)
        for i, pair in enumerate(itertools.pairwise(sizes), start=1):
            yield from _weighted(f"classifier/linear{i}", pair)
    for step in range(1, config.decoder_levels + 1):
        level = config.decoder_levels - step
        below, mid, out = config.up_widths(level)
        skip = widths[level]
        if config.upsampling == "transposed":
            yield from _weighted(f"up{step}/upsample", (2, 2, below, skip))
        yield from _double_conv(f"up{step}/conv", 2 * skip, mid, out, bias)
    if config.has_mask_head:
        yield from _weighted("outc", (1, 1, widths[0], MASK_CLASSES))


def _double_conv(
    path: str, features_in: int, mid: int, out: int, bias: bool
) -> Iterator[tuple[str, Shape]]:
    for number, pair in enumerate(itertools.pairwise((features_in, mid, out)), start=1):
        yield from _weighted(f"{path}/conv{number}", (3, 3, *pair), bias=bias)
        for leaf in ("scale", "bias", "mean", "var"):
            yield f"{path}/norm{number}/{leaf}", pair[1:]


def _weighted(path: str, shape: Shape, *, bias: bool = True) -> Iterator[tuple[str, Shape]]:
    yield f"{path}/kernel", shape
    if bias:
        yield f"{path}/bias", shape[-1:]
