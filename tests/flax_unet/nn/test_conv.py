"""Convolutions in every form that is used: what they and their gradients are, by PyTorch."""

import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from flax_unet.nn import conv
from flax_unet.nn.conv import convolve
from tests.rounding import assert_rounded, of_products
from tests.tolerances import ELEMENT, assert_close


def by_pytorch(parts: list[np.ndarray], kernel: np.ndarray, slope: np.ndarray) -> list[np.ndarray]:
    """The convolution in float64, and the gradients of its sum weighted with `slope`."""
    maps = [torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in parts]
    weight = torch.tensor(kernel, dtype=torch.float64, requires_grad=True)
    whole = torch.cat(maps, dim=3).permute(0, 3, 1, 2)
    found = F.conv2d(whole, weight.permute(3, 2, 0, 1), padding="same").permute(0, 2, 3, 1)
    (found * torch.tensor(slope)).sum().backward()
    gradients = [leaf.grad for leaf in (*maps, weight)]
    return [found.detach().numpy(), *(g.numpy() for g in gradients if g is not None)]


@pytest.fixture(autouse=True, scope="module")
def traced() -> Iterator[None]:
    """Nothing that is traced here, with other constants, is used elsewhere."""
    yield
    jax.clear_caches()


@pytest.mark.parametrize("form", ["a CPU's", "XLA's"])
@pytest.mark.parametrize(
    ("shape", "channels", "features", "size"),
    [
        ((2, 8, 8), (3,), 4, 3),
        ((2, 8, 12), (5, 7), 4, 3),
        ((2, 8, 9), (5,), 4, 3),  # of an odd width
        ((2, 8, 12), (60, 70), 4, 3),
        ((1, 1, 1), (3,), 4, 3),  # fewer pixels than output channels
        ((2, 3, 4), (5, 7), 32, 3),
        ((3, 5, 4), (2, 3), 64, 5),
        ((2, 16, 16), (3,), 4, 3),  # whose kernel's gradient is summed over whole pictures,
        ((2, 56, 56), (5, 4), 4, 3),  # blocks of 4 rows,
        ((2, 64, 112), (1, 3), 4, 3),  # blocks of 4 rows,
        ((1, 112, 56), (33,), 4, 3),  # of more columns than a cache holds,
        ((1, 59, 56), (75,), 4, 3),  # single rows, since all are too much memory,
        ((1, 3, 224), (19,), 4, 3),  # or since they are long
        ((4, 5, 20), (38,), 4, 3),  # and pairs of pictures
        ((2, 64, 64), (6,), 4, 1),
    ],
)
def test_convolution_and_its_gradients(
    shape: tuple[int, int, int],
    channels: tuple[int, ...],
    features: int,
    size: int,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conv, "_LEAST_PRODUCTS", 0)
    # A sixteenth of what is measured, so that maps of few channels are too large.
    monkeypatch.setattr(conv, "_CACHED_BYTES", 2**16)
    monkeypatch.setattr(conv, "_MOST_BYTES", 2**22)
    if form == "XLA's":
        monkeypatch.setattr(conv, "_on_cpu", conv._plain)
        monkeypatch.setattr(conv, "_gradients_on_cpu", conv._plain_gradients)
    rng = np.random.default_rng(sum(channels))
    parts = [rng.normal(size=(*shape, of)).astype(np.float32) for of in channels]
    kernel = rng.normal(size=(size, size, sum(channels), features)).astype(np.float32)
    slope = rng.normal(size=(*shape, features)).astype(np.float32)

    def total(parts: list[jax.Array], kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = convolve(parts, kernel)
        return (found * slope).sum(), found

    compute = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    (_, found), (of_parts, of_kernel) = compute(parts, kernel)
    exact = by_pytorch(parts, kernel, slope)
    squared = [np.square(of, dtype=np.float64) for of in (*parts, kernel, slope)]
    squares = by_pytorch(squared[:-2], *squared[-2:])
    terms = [size**2 * sum(channels), *[size**2 * features] * len(parts), math.prod(shape)]
    names = ["output", *["gradient of a part"] * len(parts), "gradient of the kernel"]

    def check(at: int) -> None:
        expected = of_products(torch.tensor(exact[at]), torch.tensor(squares[at]), terms[at])
        assert_rounded((found, *of_parts, of_kernel)[at], expected, names[at])

    for at in range(len(names)):
        check(at)
    # The element of the kernel's centre for the first channels, off by 1e-3, would be seen.
    exact[0][..., 0] += 1e-3 * parts[0][..., 0]
    exact[1][..., 0] += 1e-3 * slope[..., 0]
    for at in range(2):
        with pytest.raises(AssertionError, match="rounding allows"):
            check(at)


@pytest.mark.parametrize(
    ("side", "channels", "features", "platform", "convolutions", "products", "loops"),
    [
        (64, 64, 32, "cpu", 2, 1, 1),  # the kernel's gradient is products of blocks,
        (64, 63, 32, "cpu", 3, 0, 0),  # if it is worth it;
        (16, 64, 512, "cpu", 1, 2, 1),  # with more channels than pixels the input's is one, too
        (64, 64, 32, "cuda", 3, 0, 0),
        (64, 64, 32, "tpu", 3, 0, 0),
    ],
)
def test_form_is_that_of_platform_and_shape(
    side: int,
    channels: int,
    features: int,
    platform: str,
    convolutions: int,
    products: int,
    loops: int,
) -> None:
    """Where it is not, a full-size step takes a third longer and nothing else shows it."""
    x, kernel = jnp.ones((1, side, side, channels)), jnp.ones((3, 3, channels, features))
    total = jax.jit(jax.value_and_grad(lambda x, kernel: convolve([x], kernel).sum(), (0, 1)))
    program = total.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.convolution") == convolutions
    assert program.count("stablehlo.dot_general") == products
    assert program.count("stablehlo.while") == loops


def test_library_that_unfolds_whole_maps_is_passed_over() -> None:
    """A call for 8 pictures takes a third longer with it."""
    x, kernel = jnp.ones((1, 64, 64, 64)), jnp.ones((3, 3, 64, 64))

    def convolutions_by_it(convolution: Callable[..., jax.Array]) -> int:
        program = jax.jit(convolution).lower(x, kernel).compile().as_text() or ""
        bodies = program.split("\n}")
        return sum(" convolution(" in of and "ENTRY" not in of for of in bodies)

    if not convolutions_by_it(lambda x, kernel: conv._plain((x,), kernel)):
        pytest.skip("XLA has only one library for convolutions here")
    assert not convolutions_by_it(lambda x, kernel: convolve([x], kernel))
    slope = jax.grad(lambda x, kernel: jnp.square(convolve([x], kernel)).sum())
    assert not convolutions_by_it(slope)


def test_gradients_in_bfloat16_are_rounded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are fewer pixels than output channels, too."""
    monkeypatch.setattr(conv, "_LEAST_PRODUCTS", 0)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 3, 4, 5)), jnp.bfloat16)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 5, 32)), jnp.bfloat16)
    slope = jnp.asarray(rng.normal(size=(2, 3, 4, 32)), jnp.bfloat16)
    _, backward = jax.vjp(lambda x, kernel: convolve([x], kernel), x, kernel)
    wide = [np.asarray(of, np.float32) for of in (x, kernel, slope)]
    for found, expected in zip(
        backward(slope), by_pytorch([wide[0]], wide[1], wide[2])[1:], strict=True
    ):
        assert found.dtype == jnp.bfloat16
        difference = np.abs(np.asarray(found, np.float32) - expected)
        # Twice bfloat16's unit roundoff; and float32's sums where they cancel.
        assert np.all(difference <= 2.0**-8 * np.abs(expected) + ELEMENT)


def test_sums_of_bfloat16_are_kept_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient of a thousand pixels in bfloat16 is as good as its last rounding."""
    monkeypatch.setattr(conv, "_LEAST_PRODUCTS", 0)
    x = jnp.ones((1, 64, 64, 1), jnp.bfloat16)
    gradient = jax.grad(lambda k: convolve([x], k).astype(jnp.float32).sum())
    found = gradient(jnp.zeros((3, 3, 1, 1), jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    wanted = np.outer([63, 64, 63], [63, 64, 63])
    assert_close(np.asarray(found, np.float32)[..., 0, 0], wanted, 2**-8)


def test_bfloat16_is_rounded_once() -> None:
    rng = np.random.default_rng(0)
    parts = [jnp.asarray(rng.normal(size=(1, 8, 8, 128)), jnp.bfloat16) for _ in range(2)]
    kernel = jnp.asarray(rng.normal(size=(3, 3, 256, 4)), jnp.bfloat16)
    wide = [np.asarray(part, np.float32) for part in parts]
    expected = by_pytorch(wide, np.asarray(kernel, np.float32), np.ones((1, 8, 8, 4)))[0]
    found = np.asarray(convolve(parts, kernel), np.float32)
    assert np.all(np.abs(found - expected) <= 2.0**-8 * np.abs(expected) + 0.02)
