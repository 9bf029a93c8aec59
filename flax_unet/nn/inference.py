"""The network as it is run once its weights stand."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx
from jax.experimental.layout import Format, Layout
from jax.sharding import Sharding
from jax.typing import ArrayLike, DTypeLike

from flax_unet.nn.batch_norm import EPSILON
from flax_unet.nn.layers import BatchNorm, Conv, ConvTranspose, DoubleConv
from flax_unet.nn.unet import UNet, UNetOutput

# The orders in memory that XLA reads kernels in, by platform and size, as seen in what it compiles
# for NVIDIA's H100; it reads others as they are, and copies where a device wants another order.
_ORDERS: dict[str, dict[tuple[int, ...], Layout]] = {
    "gpu": {(3, 3): Layout((3, 0, 1, 2)), (2, 2): Layout((0, 2, 1, 3))},
}


def folded(model: UNet) -> UNet:
    """The same network without BatchNorm, whose scale and shift go into the convolutions before it.

    Weights then lie in the dtype that they are used in, or each call would round them anew. All
    before that is in float64, so that folding adds no rounding in bfloat16 to that of its result.

    Args:
        model: in eval mode; it stays as it is.
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
    return jax.numpy.asarray(np.asarray(values).astype(dtype))


def place(state: nnx.State, there: Sharding) -> nnx.State:
    """The weights of a folded network on devices, each in the order that it is read in there.

    Each call of the network would else copy it into that order. Putting a kernel into another one
    compiles a small program for its shape.
    """
    return jax.tree.map(lambda weights: jax.device_put(weights, place_of(weights, there)), state)


def place_of(weights: jax.Array, there: Sharding) -> Sharding | Format:
    """The devices `there`, all of one platform, and there the order in memory of one array."""
    (platform,) = {device.platform for device in there.device_set}
    order = _ORDERS.get(platform, {}).get(weights.shape[:-2])
    return there if order is None else Format(order, there)


def compiled(model: UNet) -> Callable[[ArrayLike], UNetOutput]:
    """`model`, in eval mode, as a compiled function of an image (B, H, W, 3) in [0, 1].

    Later changes of the model do not reach it. It runs where JAX puts arrays by default.
    """
    graphdef, state = nnx.split(folded(model))
    state = place(state, jax.numpy.zeros(()).sharding)

    @jax.jit
    def forward(state: nnx.State, image: jax.Array) -> UNetOutput:
        return nnx.merge(graphdef, state)(image)

    return functools.partial(forward, state)
