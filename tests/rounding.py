"""What float32 makes of a PyTorch module: its exact outputs, and how far rounding may take them.

The model is that of numerical analysis (Higham, "Accuracy and Stability of Numerical Algorithms",
2002, chapters 2 to 4; Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis",
2019). An operation rounds its result r by an error spread evenly over +-U |r|, whose variance is
U^2 r^2 / 3; errors of different operations are independent.

A sum of n products rounds n partial sums. Of terms of random signs the k-th one is near
k/n y + sqrt(k/n q), where y is the result and q the sum of the squared products. The variance of
the sum's error is then U^2 / 3 n (y^2 / 3 + q / 2): it follows from the length of the sum and the
size of what is summed. This is for one number added after the other; sums in vectors (4 numbers
with NEON, 8 with AVX2, 16 with AVX-512), in blocks or with fused products round less. Errors of
what is summed go through the sum with the squares of the weights.

A `Rounded` goes through PyTorch's modules, in float64, as a tensor does.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

U = 2.0**-24  # float32's unit roundoff: the most that rounding a result changes it by, relatively
_ONE = U**2 / 3  # variance of a rounding, to the square of the result
SIGMAS = 6  # standard deviations that an error may have: one of 5e8 has more, were it normal
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

    def dim(self) -> int:
        return self.value.dim()

    def flatten(self, start: int) -> "Rounded":
        return self.map(lambda x: x.flatten(start))


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
    value, squares = of(x.value, weight), of(x.value**2, weight**2)
    variance = _ONE * (terms * (value**2 / 3 + squares / 2) + 2 * squares)
    variance += of(x.variance, weight**2)
    if bias is None:
        return Rounded(value, variance)
    return Rounded(value + bias, variance + _ONE * (value + bias) ** 2)


def moments(x: Rounded) -> tuple[Rounded, Rounded]:
    """The mean and the biased variance of each channel, (C,), of maps (B, C, H, W)."""

    def mean(x: Rounded) -> Rounded:
        def of(x: Tensor, share: Tensor) -> Tensor:
            return (x * share).sum((0, 2, 3))

        count = x.value[:, 0].numel()
        share = torch.tensor(1 / count, dtype=torch.float64)
        return summed(of, x, share, count)

    of_all = mean(x)
    centre, moved = (along[:, None, None] for along in (of_all.value, of_all.variance))
    apart = x.value - centre
    noise = x.variance + moved + _ONE * apart**2
    return of_all, mean(Rounded(apart**2, 4 * apart**2 * noise + _ONE * apart**4))


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
