"""Batch normalisation with its own gradient, which reads each map twice.

JAX's derivative makes a pass over the maps for each way that the input enters: directly, by the
mean, by the variance. Together they need two sums a channel: Ioffe and Szegedy, "Batch
Normalization" (2015), section 3.
"""

import jax
import jax.numpy as jnp

EPSILON = 1e-5  # PyTorch's: added to the variance

_Three = tuple[jax.Array, jax.Array, jax.Array]


def apply_norm(
    x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
    """Normalises x (B, H, W, C) by given statistics (C,); of x's dtype, computed in float32."""
    factor = scale * jax.lax.rsqrt(var + EPSILON)
    return (_wide(x) * factor + (shift - mean * factor)).astype(x.dtype)


def _batch_norm(x: jax.Array, scale: jax.Array, shift: jax.Array, axis_name: str | None) -> _Three:
    """Normalises a batch by its own statistics.

    It has a gradient, but no forward-mode derivative (`jax.jvp`).

    Args:
        x: (B, H, W, C).
        scale: (C,), applied after normalisation.
        shift: (C,), added after that.
        axis_name: of `jax.pmap`, if its devices share a batch's statistics.

    Returns:
        The normalised batch, of x's shape and dtype; its mean and its biased variance, (C,) each
        and at least float32. No gradient goes through these two.
    """
    return _forward(x, scale, shift, axis_name)[0]


batch_norm = jax.custom_vjp(_batch_norm, nondiff_argnums=(3,))


def _forward(
    x: jax.Array, scale: jax.Array, shift: jax.Array, axis_name: str | None
) -> tuple[_Three, tuple[jax.Array, ...]]:
    wide = _wide(x)
    mean = _mean(wide, axis_name)
    var = _mean(jnp.square(wide - mean), axis_name)
    return (apply_norm(x, mean, var, scale, shift), mean, var), (x, mean, var, scale)


def _backward(axis_name: str | None, saved: tuple[jax.Array, ...], gradients: _Three) -> _Three:
    x, mean, var, scale = saved
    gradient = _wide(gradients[0])
    inverse = jax.lax.rsqrt(var + EPSILON)
    centred = _wide(x) - mean
    of_shift = gradient.sum((0, 1, 2))
    of_scale = (gradient * centred).sum((0, 1, 2)) * inverse
    count = x.size // x.shape[-1]
    by_mean, by_var = (_over_devices(of / count, axis_name) for of in (of_shift, of_scale))
    of_x = scale * inverse * (gradient - by_mean - centred * (inverse * by_var))
    return of_x.astype(x.dtype), of_scale.astype(scale.dtype), of_shift.astype(scale.dtype)


batch_norm.defvjp(_forward, _backward)


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _mean(wide: jax.Array, axis_name: str | None) -> jax.Array:
    return _over_devices(wide.mean((0, 1, 2)), axis_name)


def _over_devices(value: jax.Array, axis_name: str | None) -> jax.Array:
    return value if axis_name is None else jax.lax.pmean(value, axis_name)
