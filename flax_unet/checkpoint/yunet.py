"""Reads YuNet's weights from an ONNX file, also from a block-quantised one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from flax_unet.nn.yunet import HEADS, NECK, STAGES, STEM, STRIDES, Conv, Unit, YuNet

_MOST_BYTES = 2**26  # YuNet's file has a quarter of a megabyte


def load(path: Path) -> YuNet:
    """The weights in an ONNX file.

    Raises:
        ValueError: the file holds something else.
        OSError: it cannot be read.
        ModuleNotFoundError: the extra `media` is not installed.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if path.stat().st_size > _MOST_BYTES:
        raise ValueError("too large for YuNet")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        return _weights(iter(_convolutions(model.graph)))
    except (DecodeError, LookupError, TypeError) as error:
        raise ValueError("not an ONNX file that can be read") from error


def _weights(convolutions: Iterator[Conv]) -> YuNet:
    """Puts convolutions, which are in the order of the file, in their places.

    Raises:
        ValueError: they are not those of YuNet.
    """

    def conv(*shape: int) -> Conv:
        found = next(convolutions, None)
        if found is None or (found.kernel.shape, found.bias.shape) != (shape, shape[-1:]):
            raise ValueError("a convolution of another network")
        return found

    def unit(inward: int, outward: int) -> Unit:
        return Unit(conv(1, 1, inward, outward), conv(3, 3, 1, outward))

    stem = conv(3, 3, *STEM)
    stages, inward = [], STEM[-1]
    for widths in STAGES:
        stages.append([unit(*pair) for pair in zip((inward, *widths), widths, strict=False)])
        inward = widths[-1]
    neck = [unit(width, width) for width in NECK]
    heads = [[unit(inward, count) for _ in STRIDES] for count in HEADS.values()]
    if next(convolutions, None) is not None:
        raise ValueError("more convolutions than YuNet has")
    return YuNet(stem, stages, neck, [_joined(units) for units in zip(*heads, strict=True)])


def _joined(units: tuple[Unit, ...]) -> Unit:
    """Units with the same input as one."""
    return Unit(
        *(
            Conv(*(jnp.concatenate(part, -1) for part in zip(*convs, strict=True)))
            for convs in zip(*units, strict=True)
        )
    )


def _convolutions(graph: Any) -> Iterator[Conv]:
    """The weights of a graph's convolutions, in the order of the file."""
    from onnx import external_data_helper, helper, numpy_helper

    if any(external_data_helper.uses_external_data(tensor) for tensor in graph.initializer):
        raise ValueError("its weights are in other files")  # which anybody may have named
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {"DequantizeLinear": _dequantised, "Reshape": np.reshape}
    for node in graph.node:
        known = [values[name] for name in node.input if name in values]
        if node.op_type == "Conv":
            kernel, bias = known
            yield Conv(jnp.float32(kernel.transpose(2, 3, 1, 0)), jnp.float32(bias))
        elif node.op_type in makers and len(known) == len(node.input):
            attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            values[node.output[0]] = makers[node.op_type](*known, **attributes)


def _dequantised(
    levels: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int = 1, block_size: int = 0
) -> np.ndarray:
    """ONNX's DequantizeLinear, whose `scale` and `zero` are for blocks along an axis.

    Raises:
        ValueError: they are not.
    """
    shape = list(levels.shape)
    shape[axis] = -(-shape[axis] // max(block_size, 1))
    if block_size < 1 or not list(scale.shape) == list(zero.shape) == shape:
        raise ValueError("weights that are quantised in another way")
    blocks = np.arange(levels.shape[axis]) // block_size
    scale, zero = (part.take(blocks, axis).astype(np.float32) for part in (scale, zero))
    return (levels.astype(np.float32) - zero) * scale
