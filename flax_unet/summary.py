"""Prints the layer table of a network in the format of torchsummary."""

import argparse
import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from flax_unet.checkpoint.metadata import load_config, load_source
from flax_unet.nn.config import (
    IMAGE_CHANNELS,
    MASK_CLASSES,
    PUBLISHED,
    WITH_UNUSED_LEVEL,
    Size,
    UNetConfig,
    shown_size,
)
from flax_unet.utils.arguments import image_size, program_name
from flax_unet.utils.errors import InputError, command

_FLOATS_A_MEGABYTE = 2**20 / 4


class Layer(NamedTuple):
    """One row of the table."""

    type: str  # PyTorch's name of the layer
    shape: tuple[int, ...]  # of the output for one image: (C, H, W) or (C,)
    parameters: int = 0
    flops: int = 0  # of convolutions and linear layers; a multiply-add counts two


def layers(config: UNetConfig, size: Size) -> Iterator[Layer]:
    """The layers in the order in which they compute, for pictures of `size` (height, width).

    Raises:
        ValueError: `size` is not divisible by the network's stride.
    """
    if any(side < 1 or side % config.stride for side in size):
        down = [max(side // config.stride, 1) * config.stride for side in size]
        up = [side + config.stride for side in down]
        raise ValueError(
            f"size is {shown_size(size)}; both sides must be divisible by {config.stride}, such as "
            f"{down[0]}x{down[1]} or {up[0]}x{up[1]}"
        )
    widths, bias = config.widths, config.conv_bias
    maps = [(size[0] // 2**level, size[1] // 2**level) for level in range(config.levels + 1)]
    yield from _double_conv(config.in_channels, widths[0], widths[0], size, bias)
    for level in range(1, config.levels + 1):
        sides = maps[level]
        yield Layer("MaxPool2d", (widths[level - 1], *sides))
        yield from _double_conv(widths[level - 1], widths[level], widths[level], sides, bias)
        yield Layer("Down", (widths[level], *sides))
    if config.classifier_widths is not None:
        sizes = (widths[-1], *config.classifier_widths, 1)
        for width_in, width_out in itertools.pairwise(sizes):
            yield _weighted("Linear", (width_out,), width_in * width_out)
    for level in reversed(range(config.decoder_levels)):
        sides, skip = maps[level], widths[level]
        below, mid, out = config.up_widths(level)
        if config.upsampling == "transposed":
            places = math.prod(maps[level + 1])
            yield _weighted("ConvTranspose2d", (skip, *sides), 4 * below * skip, places)
        else:
            yield Layer("Upsample", (skip, *sides))
        yield from _double_conv(2 * skip, mid, out, sides, bias)
        yield Layer("Up", (out, *sides))
    if config.has_mask_head:
        shape = (MASK_CLASSES, *size)
        yield _weighted("Conv2d", shape, widths[0] * MASK_CLASSES, math.prod(size))
        yield Layer("OutConv", shape)


def _double_conv(features_in: int, mid: int, out: int, sides: Size, bias: bool) -> Iterator[Layer]:
    for width_in, width in ((features_in, mid), (mid, out)):
        shape = (width, *sides)
        yield _weighted("Conv2d", shape, 9 * width_in * width, math.prod(sides), bias=bias)
        yield Layer("BatchNorm2d", shape, 2 * width)
        yield Layer("ReLU", shape)
    yield Layer("DoubleConv", (out, *sides))


def _weighted(
    name: str, shape: tuple[int, ...], weights: int, places: int = 1, *, bias: bool = True
) -> Layer:
    """A layer whose weights are applied at `places` positions; it may add a bias a channel."""
    return Layer(name, shape, weights + bias * shape[0], 2 * weights * places)


def table(rows: Sequence[Layer], size: Size, channels: int = IMAGE_CHANNELS) -> str:
    """The layers as text, with torchsummary's columns, totals and size estimates."""
    lines = ["-" * 64, f"{'Layer (type)':>20}  {'Output Shape':>25} {'Param #':>15}", "=" * 64]
    for number, row in enumerate(rows, start=1):
        name = f"{row.type}-{number}"
        lines.append(f"{name:>20}  {[-1, *row.shape]!s:>25} {row.parameters:>15,}")
    parameters = sum(row.parameters for row in rows)
    floats = {
        "Input size": channels * math.prod(size),
        # Every output once forward and once as a gradient.
        "Forward/backward pass size": 2 * sum(math.prod(row.shape) for row in rows),
        "Params size": parameters,
    }
    megabytes = {label: count / _FLOATS_A_MEGABYTE for label, count in floats.items()}
    lines += [
        "=" * 64,
        f"Total params: {parameters:,}",
        f"Trainable params: {parameters:,}",
        "Non-trainable params: 0",
        "-" * 64,
        *(f"{label} (MB): {value:.2f}" for label, value in megabytes.items()),
        f"Estimated Total Size (MB): {sum(megabytes.values()):.2f}",
        "-" * 64,
        f"Operations per image (GFLOP, multiply-add = 2): {sum(r.flops for r in rows) / 1e9:.2f}",
    ]
    return "\n".join(lines)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog=program_name("flax_unet.summary"), description=__doc__)
    network = parser.add_mutually_exclusive_group()
    network.add_argument(
        "--layout",
        choices=PUBLISHED,
        default="ynet-224",
        help="a published one (default: ynet-224)",
    )
    network.add_argument("--checkpoint", type=Path, metavar="DIR", help="the network of this one")
    parser.add_argument(
        "--size",
        type=image_size,
        metavar="HxW",
        help="height x width in pixels, or one number (default: what the network is for)",
    )
    args = parser.parse_args(argv)
    unused = 0
    if args.checkpoint is not None:
        config = load_config(args.checkpoint)
        unused = len(load_source(args.checkpoint).get("unused", ()))
    else:
        config = PUBLISHED[args.layout]
    size = args.size or config.input_size
    try:
        rows = list(layers(config, size))
        config = dataclasses.replace(config, image_size=size)
    except ValueError as error:
        raise InputError(str(error)) from error
    print(table(rows, size, config.in_channels))
    if note := config.pooling_note:
        print(f"Note: {note}")
    if unused:
        print(f"Kept beside the weights, unused: {unused} tensors of the source")
    elif args.checkpoint is None and args.layout in WITH_UNUSED_LEVEL:
        width = 2 * config.widths[-1]
        spare = sum(r.parameters for r in _double_conv(width // 2, width, width, (1, 1), bias=True))
        print(f"Files of this layout also store {spare:,} parameters that nothing uses (down5)")


if __name__ == "__main__":
    main()
