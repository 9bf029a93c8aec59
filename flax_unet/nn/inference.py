"""Inference: BatchNorm folded, weights cast and placed once, one program for all devices."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jax.typing import ArrayLike, DTypeLike

from flax_unet.nn.batch_norm import EPSILON
from flax_unet.nn.layers import BatchNorm, Conv, ConvTranspose, DoubleConv
from flax_unet.nn.unet import UNet, UNetOutput, normalised
from flax_unet.utils.errors import InputError

Compute = Callable[[UNetOutput, Any], Any]
"""From the network's output for a batch, and that batch, to a tree of arrays."""

_AXIS = "devices"
_WHOLE, _SHARES = PartitionSpec(), PartitionSpec(_AXIS)
# The orders in memory that XLA reads kernels in, by platform and size, as seen in what it compiles
# for NVIDIA's H100; it reads others as they are, and copies where a device wants another order.
_ORDERS: dict[str, dict[tuple[int, ...], Layout]] = {
    "gpu": {(3, 3): Layout((3, 0, 1, 2)), (2, 2): Layout((0, 2, 1, 3))},
}


def select_devices(wanted: str) -> list[Any]:
    """The devices of this process that `--devices` selects: `all`, how many, or which: `0,2`.

    Raises:
        InputError: the text is malformed, or there are fewer devices.
    """
    devices = jax.local_devices()
    if wanted == "all":
        return devices
    numbers = [number for number in wanted.split(",") if number]
    chosen = [int(number) for number in numbers if number.isdecimal()]
    if wanted.isdecimal():
        chosen = numbers = list(range(int(wanted)))
    if not chosen or len({*chosen}) < len(numbers):
        raise InputError(
            f"--devices {wanted}: expected all, how many, or which, each once, such as 0,2. One "
            "number alone is a count; device 0 is named 0,"
        )
    if max(chosen) >= len(devices):
        raise InputError(
            f"--devices {wanted}: there are {len(devices)} ({devices[0].platform}), 0 to "
            f"{len(devices) - 1}. Name fewer, or all"
        )
    return [devices[number] for number in chosen]


def folded(model: UNet) -> UNet:
    """The same network without BatchNorm, whose scale and shift go into the convolutions before it.

    Weights are cast to the dtype that they are used in here, once; otherwise every call repeats
    the cast. Before that all is in float64, so that in bfloat16 only the result is rounded.

    The model, which is in eval mode, stays as it is.
    """
    model = nnx.clone(model)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, DoubleConv):
            module.conv1, module.norm1 = _fold(module.conv1, module.norm1), None
            module.conv2, module.norm2 = _fold(module.conv2, module.norm2), None
    for _, module in nnx.iter_modules(model):
        if isinstance(module, Conv | ConvTranspose):
            for weights in filter(None, (module.kernel, module.bias)):
                weights.set_value(_put(weights[...], module.dtype))
    return model


def _fold(conv: Conv, norm: BatchNorm | None) -> Conv:
    if norm is None:
        raise ValueError("the network is folded already")
    scale, shift, mean, var, kernel = (
        np.asarray(of[...], np.float64)
        for of in (norm.scale, norm.bias, norm.mean, norm.var, conv.kernel)
    )
    bias = 0.0 if conv.bias is None else np.asarray(conv.bias[...], np.float64)
    with np.errstate(all="ignore"):  # of damaged weights: outputs are checked
        factor = scale / np.sqrt(var + EPSILON)
        conv.kernel = nnx.Param(_put(kernel * factor, conv.dtype))
        # Where there was none before, too.
        conv.bias = nnx.data(nnx.Param(_put(shift + (bias - mean) * factor, conv.dtype)))
    return conv


def _put(values: ArrayLike, dtype: DTypeLike) -> jax.Array:
    # Rounded on the host: each shape would be compiled otherwise.
    return jnp.asarray(np.asarray(values).astype(dtype))


def format_of(weights: jax.Array, sharding: Sharding) -> Sharding | Format:
    """`sharding`, over devices of one platform, with the order that an array is read in there."""
    (platform,) = {device.platform for device in sharding.device_set}
    order = _ORDERS.get(platform, {}).get(weights.shape[:-2])
    return sharding if order is None else Format(order, sharding)


def whole_output(output: UNetOutput, _: Any) -> UNetOutput:
    """The default of what `compiled` computes: the network's output itself."""
    return output


def compiled(
    model: UNet, devices: Sequence[Any] | None = None, compute: Compute = whole_output
) -> Callable[[Any], Any]:
    """A network as a function of a batch: folded, placed on devices and compiled for each shape.

    Later changes of the model do not reach it. Networks of one architecture share their programs
    where `devices` and `compute` are equal, so a network that is training compiles once.

    Args:
        model: in eval mode.
        devices: JAX devices of this process, of one platform; None: the default device.
        compute: what to compute on each device, from the network's output for its share of the
            batch and that share: a tree of arrays. They are joined along their first axis.

    Returns:
        A function of images (B, H, W, 3), uint8 or floating point in [0, 1], or of a dictionary
        that holds them as `image` beside other arrays. B is a multiple of the number of devices.
    """
    devices = tuple(devices or jnp.zeros(()).devices())
    graphdef, state = nnx.split(folded(model))
    mesh = Mesh(np.array(devices), (_AXIS,))
    whole, shares = (NamedSharding(mesh, spec) for spec in (_WHOLE, _SHARES))
    # In the order that it is read in; otherwise every call copies it into that order.
    state = jax.tree.map(lambda x: jax.device_put(x, format_of(x, whole)), state)
    return functools.partial(_run, program(graphdef, devices, compute), state, shares)


def _run(run: Callable[..., Any], state: nnx.State, shares: Sharding, batch: Any) -> Any:
    return run(state, jax.device_put(batch, shares))


@functools.lru_cache(maxsize=8)
def program(graphdef: nnx.GraphDef, devices: tuple[Any, ...], compute: Compute) -> Any:
    """The function of weights and a batch that `compiled` runs, compiled at its first call."""
    mesh = Mesh(np.array(devices), (_AXIS,))

    def forward(state: nnx.State, batch: Any) -> Any:
        image = batch["image"] if isinstance(batch, dict) else batch
        image = normalised(image) if image.dtype == np.uint8 else image
        return compute(nnx.merge(graphdef, state)(image), batch)

    mapped = jax.shard_map(
        forward, mesh=mesh, in_specs=(_WHOLE, _SHARES), out_specs=_SHARES, check_vma=False
    )
    return jax.jit(mapped)
