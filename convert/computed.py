"""Tensors of the network that a file holds in another form: pruned, normalised, of one class.

The source's own tensors are kept beside the weights, so that they come back as they were.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from convert.mapping import BLOCK
from convert.tensors import Tensor

Compute = Callable[..., np.ndarray]


class Computed(NamedTuple):
    """How one tensor of the network follows from tensors of the file."""

    parts: tuple[str, ...]  # their published names
    shape: tuple[int, ...]
    compute: Compute
    how: str  # for people


def _normed(magnitude: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Directions of length 1, times a magnitude for each: `torch.nn.utils.weight_norm`."""
    lengths = magnitude.shape or (1,) * direction.ndim
    axes = tuple(axis for axis, length in enumerate(lengths) if length == 1)
    wide = direction.astype(np.float64)
    norm = np.sqrt((wide * wide).sum(axes, keepdims=True))
    return (magnitude.astype(np.float64) * wide / norm).astype(direction.dtype)


def _masked(weights: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Weights times a mask of any type: `torch.nn.utils.prune`."""
    return weights * (mask.astype(weights.dtype) if mask.dtype.kind in "biu" else mask)


def _paired(logit: np.ndarray) -> np.ndarray:
    """The weights of a pair of classes whose softmax is the sigmoid of one logit."""
    return np.concatenate([np.zeros_like(logit), logit])


_MASK = "_mask"
_NORMED = _normed, "{} times directions of {} (weight normalisation)"
_IN_TWO: dict[tuple[str, str], tuple[Compute, str]] = {
    ("{}_orig", f"{{}}{_MASK}"): (_masked, "{} times {} (pruning)"),
    ("{}_g", "{}_v"): _NORMED,
    ("parametrizations.{}.original0", "parametrizations.{}.original1"): _NORMED,
}
"""The names of a tensor's two parts, of which one has its shape."""


def is_mask(name: str) -> bool:
    """Whether a part is a mask, which may be of any type of numbers."""
    return name.endswith(_MASK)


def computed(tensors: Mapping[str, Tensor]) -> dict[str, Computed]:
    """The tensors of the network that are not stored as they are, by published name."""
    found: dict[str, Computed] = {}
    for (first, second), (compute, how) in _IN_TWO.items():
        for leaf in ("weight", "bias"):
            end = f".{second.format(leaf)}"
            for name in tensors:
                if not name.endswith(end) or not re.match(BLOCK, name):
                    continue
                layer = name.removesuffix(end)
                parts, whole = (f"{layer}.{first.format(leaf)}", name), f"{layer}.{leaf}"
                if parts[0] not in tensors or whole in tensors:
                    continue
                shape = _broadcast(*(tensors[part].shape for part in parts))
                if shape is not None:
                    found[whole] = Computed(parts, shape, compute, how.format(*parts))
    for leaf, axes in (("weight", 4), ("bias", 1)):
        name = f"outc.conv.{leaf}"
        logit = found.get(name) or tensors.get(name)
        if logit is not None and logit.shape[:1] == (1,) and len(logit.shape) == axes:
            found[name] = _pair(name, logit)
    return found


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The one of these shapes that the others broadcast to, or None."""
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        return None
    return shape if shape in shapes else None


def _pair(name: str, logit: Tensor | Computed) -> Computed:
    shape, how = (2, *logit.shape[1:]), "one logit z as the pair 0, z"
    if not isinstance(logit, Computed):
        return Computed((name,), shape, _paired, how)
    compute = logit.compute
    return Computed(
        logit.parts, shape, lambda *parts: _paired(compute(*parts)), f"{logit.how}; {how}"
    )
