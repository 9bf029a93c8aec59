"""Each layer against PyTorch's."""

import copy
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn
from torch.nn import functional as F

from flax_unet.nn import layers
from flax_unet.nn.batch_norm import batch_norm
from tests.flax_unet.samples import run
from tests.rounding import (
    Rounded,
    Statistics,
    assert_rounded,
    batch_norm_gradients,
    of_products,
    running,
    through,
)
from tests.tolerances import assert_close, of_sums


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 2.0, shape).astype(np.float32)


def to_torch(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def from_torch(x: torch.Tensor) -> np.ndarray:
    return x.detach().permute(0, 2, 3, 1).numpy()


def batch_norms(features: int) -> tuple[layers.BatchNorm, nn.BatchNorm2d]:
    """One of each kind with the same random statistics and affine parameters."""
    ours, theirs = layers.BatchNorm(features), nn.BatchNorm2d(features)
    rng = np.random.default_rng(features)
    for variable, tensor, low in (
        (ours.scale, theirs.weight, -1.5),
        (ours.bias, theirs.bias, -1.5),
        (ours.mean, theirs.running_mean, -1.5),
        (ours.var, theirs.running_var, 0.01),
    ):
        assert tensor is not None
        values = rng.uniform(low, 2.0, features).astype(np.float32)
        variable[...] = jnp.asarray(values)
        tensor.data = torch.from_numpy(values)
    return ours, theirs


def statistics(norm: nn.BatchNorm2d) -> Statistics:
    return Rounded.exact(norm.running_mean), Rounded.exact(norm.running_var)


def assert_computes(
    ours: Callable[[jax.Array], jax.Array], theirs: nn.Module, x: np.ndarray
) -> None:
    """Asserts that a layer gives what PyTorch's does, and that 1e-3 on a weight would be seen."""
    found = run(ours, x) if isinstance(ours, nnx.Module) else jax.jit(ours)(x)
    assert_rounded(found, through(theirs, to_torch(x)).channels_last())
    for name, weight in theirs.named_parameters():
        off = copy.deepcopy(theirs)
        with torch.no_grad():
            off.get_parameter(name).view(-1)[weight.numel() // 2] += 1e-3
        with pytest.raises(AssertionError, match="rounding allows"):
            assert_rounded(found, through(off, to_torch(x)).channels_last(), name)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_convolution(size: int, bias: bool) -> None:
    ours = layers.Conv(5, 7, size, bias=bias, dtype=jnp.float32, rngs=nnx.Rngs(0))
    theirs = nn.Conv2d(5, 7, size, padding=size // 2, bias=bias)
    kernel = theirs.weight.detach().numpy()
    ours.kernel[...] = jnp.asarray(kernel.transpose(2, 3, 1, 0))
    if theirs.bias is not None:
        assert ours.bias is not None
        ours.bias[...] = jnp.asarray(theirs.bias.detach().numpy())
    assert_computes(ours, theirs, noise(2, 6, 9, 5))


def test_initial_values_of_a_seed_are_jaxs() -> None:
    """However they are drawn, a seed gives the weights that it always gave."""
    key, shape = jax.random.key(0), (3, 3, 2, 4)
    expected = jax.random.uniform(key, shape, minval=-(18**-0.5), maxval=18**-0.5)
    np.testing.assert_array_equal(layers.torch_uniform(18)(key, shape), expected)


def test_max_pool() -> None:
    """The gradient too: of equal pixels, which are many behind a ReLU, the first gets it."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (2, 6, 8, 5)).astype(np.float32)
    slope = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    weighted = jax.jit(jax.value_and_grad(lambda x: (layers.max_pool(x) * slope).sum()))
    ours = weighted(jnp.asarray(x))
    image = to_torch(x).requires_grad_()
    terms = (F.max_pool2d(image, 2) * to_torch(slope)).double()
    terms.sum().backward()
    assert image.grad is not None
    exact = of_products(terms.detach().sum(), (terms.detach() ** 2).sum(), terms.numel())
    assert_rounded(ours[0], exact)
    np.testing.assert_array_equal(ours[1], from_torch(image.grad))

    x[0, 3, 3, 1] = x[1, 0, 0, 0] = np.nan
    found = np.asarray(layers.max_pool(jnp.asarray(x)))
    np.testing.assert_array_equal(found, from_torch(F.max_pool2d(to_torch(x), 2)))


def test_batch_norm_with_running_statistics() -> None:
    ours, theirs = batch_norms(6)
    ours.eval()
    assert_computes(ours, theirs.eval(), noise(3, 5, 4, 6))


def test_batch_norm_in_training_keeps_pytorchs_statistics() -> None:
    ours, theirs = batch_norms(6)
    expected = statistics(theirs)
    for step in range(3):
        x = noise(2, 3, 3, 6, seed=step)  # 18 values: biased and unbiased differ by 6 %
        assert_computes(ours, theirs, x)
        theirs(to_torch(x))
        expected = running(expected, Rounded.exact(to_torch(x)), 0.1)
    for found in (ours.mean[...], ours.var[...]), (theirs.running_mean, theirs.running_var):
        for values, wanted in zip(found, expected, strict=True):
            assert_rounded(values, wanted)


def test_batch_norm_variance_of_values_far_from_zero() -> None:
    ours, theirs = batch_norms(3)
    x = noise(4, 8, 8, 3) + 1000  # mean of squares minus square of mean would lose every digit
    expected = running(statistics(theirs), Rounded.exact(to_torch(x)), 0.1)[1]
    ours(jnp.asarray(x))
    theirs(to_torch(x))
    assert_rounded(ours.var[...], expected)
    assert_rounded(theirs.running_var, expected)


def test_batch_norm_in_bfloat16_keeps_float32_statistics() -> None:
    ours, _ = batch_norms(6)
    wide, _ = batch_norms(6)
    x = jnp.asarray(noise(2, 3, 3, 6)).astype(jnp.bfloat16)
    assert ours(x).dtype == jnp.bfloat16
    wide(x.astype(jnp.float32))
    assert ours.mean[...].dtype == ours.var[...].dtype == jnp.float32
    np.testing.assert_array_equal(ours.var[...], wide.var[...])
    before = np.asarray(ours.mean[...])
    ours.eval()
    ours(x)
    np.testing.assert_array_equal(ours.mean[...], before)


@pytest.mark.parametrize("offset", [0, 100])  # a float32 of 100 is 50 times as coarse as one of 2
def test_gradient_of_batch_norm(offset: int) -> None:
    ours, theirs = batch_norms(6)
    x, slope = noise(2, 8, 8, 6) + np.float32(offset), noise(2, 8, 8, 6, seed=1)
    graphdef, weights, rest = nnx.split(ours, nnx.Param, ...)

    def loss(weights: nnx.State, x: jax.Array) -> jax.Array:
        return (nnx.merge(graphdef, weights, rest, copy=True)(x) * slope).sum()

    of_weights, of_x = jax.jit(jax.grad(loss, (0, 1)))(weights, jnp.asarray(x))
    found = of_x.transpose(0, 3, 1, 2), of_weights["scale"][...], of_weights["bias"][...]
    expected = batch_norm_gradients(theirs, to_torch(x), to_torch(slope))
    for values, wanted in zip(found, expected, strict=True):
        assert_rounded(values, wanted)


def test_gradient_of_batch_norm_in_bfloat16_is_rounded_once() -> None:
    scale, shift = jnp.asarray(noise(6)), jnp.asarray(noise(6, seed=1))
    x = jnp.asarray(noise(2, 8, 8, 6)).astype(jnp.bfloat16)
    slope = jnp.asarray(noise(2, 8, 8, 6, seed=2)).astype(jnp.bfloat16)

    def gradients(x: jax.Array) -> tuple[jax.Array, ...]:
        normal, pull = jax.vjp(lambda *args: batch_norm(*args, None)[0], x, scale, shift)
        return pull(slope.astype(normal.dtype))

    found, wide = gradients(x), gradients(x.astype(jnp.float32))
    np.testing.assert_array_equal(found[0], wide[0].astype(jnp.bfloat16))
    for narrow, exact in zip(found[1:], wide[1:], strict=True):
        assert narrow.dtype == jnp.float32
        np.testing.assert_array_equal(narrow, exact)


def test_batch_norm_refuses_a_single_value_a_channel() -> None:
    with pytest.raises(ValueError, match="more than one value a channel"):
        layers.BatchNorm(2)(jnp.zeros((1, 1, 1, 2)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (14, 14)])
def test_transposed_convolution(shape: tuple[int, int]) -> None:
    ours = layers.ConvTranspose(6, 3, dtype=jnp.float32, rngs=nnx.Rngs(0))
    theirs = nn.ConvTranspose2d(6, 3, kernel_size=2, stride=2)
    ours.kernel[...] = jnp.asarray(theirs.weight.detach().numpy().transpose(2, 3, 0, 1))
    assert theirs.bias is not None
    ours.bias[...] = jnp.asarray(theirs.bias.detach().numpy())
    assert_computes(ours, theirs, noise(2, *shape, 6))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 5), (14, 28), (112, 112), (160, 160)])
def test_bilinear_upsampling(shape: tuple[int, int]) -> None:
    theirs = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    assert_computes(layers.upsample_bilinear, theirs, noise(2, *shape, 3))


def test_rematerialised_layer_keeps_its_input_alone() -> None:
    layer = layers.DoubleConv(3, 4, 5, bias=True, dtype=jnp.float32, rngs=nnx.Rngs(1))
    x = jnp.asarray(noise(2, 32, 32, 3))

    def kept(remat: bool) -> int:
        """Bytes from which the gradient is computed."""
        layer.remat = remat
        graphdef, state = nnx.split(layer)
        of_layer = lambda s, x: nnx.merge(graphdef, s, copy=True)(x)  # noqa: E731
        pull = jax.eval_shape(lambda s, x: jax.vjp(of_layer, s, x)[1], state, x)
        return sum(of.size * of.dtype.itemsize for of in jax.tree.leaves(pull))

    assert kept(remat=True) < x.nbytes + 4096
    assert kept(remat=False) > 5 * x.nbytes


def test_double_convolution_gradient() -> None:
    """The gradient through both convolutions and the batch's own statistics."""
    ours = layers.DoubleConv(3, 4, 5, bias=True, dtype=jnp.float32, rngs=nnx.Rngs(1))
    theirs = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
    )
    for index, convolution in ((0, ours.conv1), (3, ours.conv2)):
        assert convolution.bias is not None
        kernel = np.asarray(convolution.kernel[...]).transpose(3, 2, 0, 1)
        theirs[index].weight.data = torch.from_numpy(kernel.copy())
        theirs[index].bias.data = torch.from_numpy(np.array(convolution.bias[...]))
    x, target = noise(2, 8, 8, 3), noise(2, 8, 8, 5, seed=1)
    graphdef, state = nnx.split(ours)

    def loss(x: jax.Array) -> jax.Array:
        return (nnx.merge(graphdef, state, copy=True)(x) * target).sum()

    x_torch = to_torch(x).double().requires_grad_()
    (theirs.double()(x_torch) * to_torch(target)).sum().backward()
    assert x_torch.grad is not None
    # Of both convolutions and their gradients, and two sums for each BatchNorm and its gradient.
    # Terms are of random signs: their sizes add up to about sqrt(n) times what is left of them.
    products, pixels = (3 * 9, 4 * 9, 5 * 9, 4 * 9), 2 * 8 * 8
    tolerance = of_sums(*products, *[pixels] * 8, cancelled=max(products) ** 0.5)
    found = jax.jit(jax.grad(loss))(jnp.asarray(x))
    assert_close(found, from_torch(x_torch.grad), tolerance)
