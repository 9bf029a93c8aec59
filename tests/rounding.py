"""What float32 makes of a PyTorch module: its exact outputs, and how far rounding may take them.

The model is that of numerical analysis (Higham, "Accuracy and Stability of Numerical Algorithms",
2002, chapters 2 to 4; Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis",
2019). An operation rounds its result r by an error spread evenly over +-U |r|, whose variance is
U^2 r^2 / 3; errors of different operations are independent.

A sum of n products rounds n partial sums. Of terms of random signs the k-th one is near
k/n y + sqrt(k/n q), where y is the result and q the sum of the squared products. So the variance of
the sum's error is U^2 / 3 n (y^2 / 3 + q / 2): it follows from the length of the sum and the size
of what is summed. This holds for one number added after the other. Sums in vectors (4 numbers with
NEON, 8 with AVX2, 16 with AVX-512), in blocks, or with fused products are rounded less. Errors of
what is summed go through the sum with the squares of the weights.

A `Rounded` goes through PyTorch's modules, in float64, as a tensor does.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.tolerances import SIGMAS, U

_ONE = U**2 / 3  # variance of a rounding, relative to the square of its result
_RSQRT = 16 * _ONE  # of 1 / sqrt(x), right to 2 units in the last place on every processor


@dataclasses.dataclass(frozen=True)
class Rounded:
    """Numbers as float32 computes them."""

    value: Tensor  # float64: the exact ones
    variance: Tensor  # of their errors

    @classmethod
    def exact(cls, value: Any) -> Self:
        """Numbers that float32 holds as they are."""
        value = torch.as_tensor(value, dtype=torch.float64)
        return cls(value, torch.zeros_like(value))

    @classmethod
    def __torch_function__(
        cls, function: Any, _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> "Rounded":
        return _FUNCTIONS[function](*args, **(kwargs or {}))

    def map(self, function: Callable[[Tensor], Tensor]) -> "Rounded":
        """Both moved to other places by a function that computes nothing."""
        return Rounded(function(self.value), function(self.variance))

    def __getitem__(self, at: Any) -> "Rounded":
        return self.map(lambda x: x[at])

    @property
    def shape(self) -> torch.Size:
        """Of the numbers."""
        return self.value.shape

    def dim(self) -> int:
        return self.value.dim()

    def flatten(self, start: int) -> "Rounded":
        return self.map(lambda x: x.flatten(start))

    def channels_last(self) -> "Rounded":
        """(B, C, H, W) -> (B, H, W, C)."""
        return self.map(lambda x: x.permute(0, 2, 3, 1))


def assert_rounded(found: Any, expected: Rounded, what: str = "") -> None:
    """Asserts that each number is as near to the exact one as float32 comes."""
    found, exact = np.asarray(found, np.float64), expected.value.numpy()
    assert found.shape == exact.shape, what
    apart, allowed = np.abs(found - exact), SIGMAS * np.sqrt(expected.variance.numpy())
    if not (apart <= allowed).all():
        at = np.unravel_index(np.nanargmax(apart - allowed), apart.shape)
        raise AssertionError(
            f"{what}: {found[at]} is {apart[at]:.1e} from {exact[at]}; rounding allows "
            f"{allowed[at]:.1e}, at {tuple(map(int, at))} of {apart.shape}"
        )


def through(module: nn.Module, *inputs: Any) -> Rounded:
    """What a float32 module makes of its inputs, which float32 holds as they are."""
    with torch.no_grad():
        return copy.deepcopy(module).double()(*map(Rounded.exact, inputs))


def summed(
    of: Callable[[Tensor, Tensor], Tensor],
    x: Rounded,
    weight: Tensor,
    terms: int,
    bias: Tensor | None = None,
) -> Rounded:
    """A sum of products.

    Args:
        of: gives the sums of two factors, linear in each.
        x: one factor.
        weight: the other one, rounded itself where it was computed.
        terms: of a sum.
        bias: added at the end, of a shape that broadcasts.
    """
    sums = of_products(of(x.value, weight), of(x.value**2, weight**2), terms)
    variance = sums.variance + of(x.variance, weight**2)
    if bias is None:
        return Rounded(sums.value, variance)
    return Rounded(sums.value + bias, variance + _ONE * (sums.value + bias) ** 2)


def of_products(value: Tensor, squares: Tensor, terms: int) -> Rounded:
    """Sums of products of what float32 holds.

    Args:
        value: the sums.
        squares: those of the squared products.
        terms: of a sum.
    """
    # Twice the squares: of the products, and of a factor that is itself a rounded product.
    return Rounded(value, _ONE * (terms * (value**2 / 3 + squares / 2) + 2 * squares))


def moments(x: Rounded) -> tuple[Rounded, Rounded]:
    """The mean and the biased variance of each channel, (C,), of maps (B, C, H, W)."""

    def mean(x: Rounded) -> Rounded:
        def of(x: Tensor, share: Tensor) -> Tensor:
            return (x * share).sum((0, 2, 3))

        count = x.value[:, 0].numel()
        share = torch.tensor(1 / count, dtype=torch.float64)
        return summed(of, x, share, count)

    of_all = mean(x)
    apart = x.value - of_all.value[:, None, None]
    noise = x.variance + _ONE * apart**2
    var = mean(Rounded(apart**2, 4 * apart**2 * noise + _ONE * apart**4))
    # A mean that is off by d makes the variance larger by d^2, and by nothing of the first order.
    return of_all, Rounded(var.value, var.variance + (SIGMAS * of_all.variance) ** 2)


Statistics = tuple[Rounded, Rounded]
"""A BatchNorm's running mean and variance."""


def running(before: Statistics, x: Rounded, momentum: float) -> Statistics:
    """Them after a step of training on maps (B, C, H, W), with PyTorch's momentum."""
    count = x.value[:, 0].numel()

    def after(old: Rounded, now: Rounded, factor: float) -> Rounded:
        step = momentum * (factor * now.value - old.value)
        value = old.value + step
        noise = (1 - momentum) ** 2 * old.variance + (momentum * factor) ** 2 * now.variance
        return Rounded(value, noise + _ONE * (3 * step**2 + value**2))

    mean, var = moments(x)
    return after(before[0], mean, 1), after(before[1], var, count / (count - 1))


def batch_norm_gradients(norm: nn.BatchNorm2d, x: Tensor, slope: Tensor) -> tuple[Rounded, ...]:
    """Of the sum of a training BatchNorm's output times `slope`, by x, by scale and by shift."""
    exact, x, slope = copy.deepcopy(norm).double(), x.double().requires_grad_(), slope.double()
    (exact(x) * slope).sum().backward()
    of_x, of_scale, of_shift = (leaf.grad for leaf in (x, exact.weight, exact.bias))
    assert of_x is not None
    assert of_scale is not None
    assert of_shift is not None
    x, scale, count = x.detach(), exact.weight.detach()[:, None, None], x[:, 0].numel()
    mean, var = (of.map(lambda x: x[:, None, None]) for of in moments(Rounded.exact(x)))
    inverse = 1 / (var.value + norm.eps).sqrt()
    normal = (x - mean.value) * inverse
    by_inverse = var.variance * inverse**4 / 4 + _RSQRT + 2 * _ONE  # relative

    def in_sum(x: Tensor) -> Tensor:
        return x.sum((0, 2, 3))

    shift_sum = of_products(of_shift, in_sum(slope**2), count)
    scale_sum = of_products(of_scale, in_sum((slope * normal) ** 2), count)
    # The mean moves all pixels of a channel alike.
    moved = of_shift**2 * (mean.variance * inverse**2).flatten()
    scale_sum = Rounded(of_scale, scale_sum.variance + moved + of_scale**2 * by_inverse.flatten())
    means = [of.map(lambda x: x[:, None, None]) for of in (shift_sum, scale_sum)]
    by_mean, by_var = (of.value / count for of in means)
    noise = sum(
        of.variance / count**2 * with_ for of, with_ in zip(means, (1, normal**2), strict=True)
    )
    noise += by_var**2 * (mean.variance * inverse**2 + normal**2 * (by_inverse + 2 * _ONE))
    noise += _ONE * (slope**2 + 2 * by_mean**2 + 2 * (normal * by_var) ** 2)
    noise = (scale * inverse) ** 2 * noise + of_x**2 * (by_inverse + 2 * _ONE)
    return Rounded(of_x, noise), scale_sum, shift_sum


def _conv2d(
    x: Rounded, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, *_: Any
) -> Rounded:
    def of(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, stride, padding)

    bias = None if bias is None else bias[:, None, None]
    return summed(of, x, weight, weight[0].numel(), bias)


def _conv_transpose2d(x: Rounded, weight: Tensor, bias: Tensor, stride: Any, *_: Any) -> Rounded:
    def of(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv_transpose2d(x, weight, None, stride)

    assert tuple(stride) == weight.shape[2:]  # so that windows do not overlap
    return summed(of, x, weight, len(weight), bias[:, None, None])


def _linear(x: Rounded, weight: Tensor, bias: Tensor) -> Rounded:
    return summed(F.linear, x, weight, weight.shape[1], bias)


def _batch_norm(
    x: Rounded,
    mean: Tensor,
    var: Tensor,
    weight: Tensor,
    bias: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Rounded:
    del momentum
    of_mean, of_var = moments(x) if training else map(Rounded.exact, (mean, var))
    columns = (of_mean.value, of_mean.variance, of_var.value, of_var.variance, weight, bias)
    mean, mean_noise, var, var_noise, scale, shift = (of[:, None, None] for of in columns)
    factor = scale / (var + eps).sqrt()
    normal = (x.value - mean) * factor
    value = normal + shift
    # As x * factor + (shift - mean * factor), or with the factor in the convolution before.
    noise = factor**2 * (x.variance + mean_noise)
    noise += normal**2 * (var_noise / (4 * (var + eps) ** 2) + _RSQRT + 2 * _ONE)
    parts = (x.value * factor, mean * factor, shift - mean * factor, value)
    return Rounded(value, noise + _ONE * sum(part**2 for part in parts))


def _interpolate(x: Rounded, *args: Any, **kwargs: Any) -> Rounded:
    def of(x: Tensor) -> Tensor:
        return F.interpolate(x, *args, **kwargs)

    # Positions are float32's, in which PyTorch and this project agree but for their last digit: of
    # the weights, which are in [0, 1], as much as it is of a position.
    value = of(x.value.float()).double()
    squares = of(x.value**2)
    side = max(value.shape[2:])
    return Rounded(value, of(x.variance) + _ONE * (side**2 + 8) * squares)


def _relu(x: Rounded, inplace: bool = False) -> Rounded:
    del inplace
    reached = x.value > -SIGMAS * x.variance.sqrt()
    return Rounded(x.value.relu(), x.variance * reached)


def _largest(pool: Callable[..., Tensor]) -> Callable[..., Rounded]:
    def of(x: Rounded, *args: Any, **kwargs: Any) -> Rounded:
        # The largest may be another one by as much as they are rounded.
        return x.map(lambda of: pool(of, *args, **kwargs))

    return of


_FUNCTIONS: dict[Any, Callable[..., Rounded]] = {
    F.conv2d: _conv2d,
    F.conv_transpose2d: _conv_transpose2d,
    F.linear: _linear,
    F.batch_norm: _batch_norm,
    F.interpolate: _interpolate,
    F.max_pool2d: _largest(F.max_pool2d),
    F.adaptive_max_pool2d: _largest(F.adaptive_max_pool2d),
    F.relu: _relu,
    torch.cat: lambda parts, dim: Rounded(
        *(torch.cat([getattr(part, name) for part in parts], dim) for name in ("value", "variance"))
    ),
}
