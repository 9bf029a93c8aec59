"""The network as it is run once its weights stand."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from flax_unet.batch_norm import EPSILON
from flax_unet.layers import BatchNorm, Conv, ConvTranspose, DoubleConv
from flax_unet.model import UNet, UNetOutput


def folded(model: UNet) -> UNet:
    """The same network without BatchNorm, whose scale and shift go into the convolutions before it.

    They are folded into float32 kernels, so that in bfloat16 each kernel is rounded but once.

    Args:
        model: in eval mode; it stays as it is.
    """
    model = nnx.clone(model)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, DoubleConv):
            module.conv1, module.norm1 = _fold(module.conv1, module.norm1), None
            module.conv2, module.norm2 = _fold(module.conv2, module.norm2), None
    return model


def _fold(conv: Conv, norm: BatchNorm | None) -> Conv:
    if norm is None:
        raise ValueError("the network is folded already")
    # On the host: each shape would be compiled otherwise.
    scale, shift, mean, var, kernel = (
        np.asarray(of[...], np.float64)
        for of in (norm.scale, norm.bias, norm.mean, norm.var, conv.kernel)
    )
    bias = 0.0 if conv.bias is None else np.asarray(conv.bias[...], np.float64)
    dtype = conv.kernel[...].dtype
    with np.errstate(all="ignore"):  # of damaged weights: outputs are checked
        factor = scale / np.sqrt(var + EPSILON)
        kernel, shift = (
            jax.numpy.asarray(of.astype(dtype))
            for of in (kernel * factor, shift + (bias - mean) * factor)
        )
    conv.kernel = nnx.Param(kernel)
    conv.bias = nnx.data(nnx.Param(shift))  # where there was none before, too
    return conv


def compiled(model: UNet) -> Callable[[ArrayLike], UNetOutput]:
    """`model`, in eval mode, as a compiled function of an image (B, H, W, 3) in [0, 1].

    Later changes of the model do not reach it.
    """
    model = folded(model)
    _round_weights(model)
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(state: nnx.State, image: jax.Array) -> UNetOutput:
        return nnx.merge(graphdef, state)(image)

    return functools.partial(forward, state)


def _round_weights(model: UNet) -> None:
    """Has weights lie in the dtype that they are used in, or each call would round them anew."""
    for _, module in nnx.iter_modules(model):
        if isinstance(module, Conv | ConvTranspose):
            for name in ("kernel", "bias"):
                weights = getattr(module, name)
                if weights is not None:
                    weights[...] = jax.numpy.asarray(np.asarray(weights[...], module.dtype))
