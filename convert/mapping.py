"""The conversion's table: which PyTorch tensor becomes which Flax leaf, and how its axes move.

`match` applies it and checks it: every key of the source has exactly one rule or one ignored row,
every leaf of the target is set exactly once, and shapes agree.
"""

import functools
import re
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from flax_unet.nn.config import UNetConfig
from flax_unet.nn.shapes import Shape, weight_shapes

Axes = tuple[int, ...]
Tree = dict[str, Any]
"""Nested dictionaries with arrays at the leaves."""

VECTOR: Axes = (0,)
LINEAR: Axes = (1, 0)  # (out, in) -> (in, out)
CONV: Axes = (2, 3, 1, 0)  # (out, in, kh, kw) -> (kh, kw, in, out)
CONV_TRANSPOSE: Axes = (2, 3, 0, 1)  # (in, out, kh, kw) -> (kh, kw, in, out)


class Rule(NamedTuple):
    """One tensor of the source sets one leaf of the target.

    `{down}`, `{up}` and `{linear}` stand for each number that the network has of these.
    """

    source: str  # key in the PyTorch state dict
    target: str  # path in the Flax state
    axes: Axes  # target = transpose(source, axes)


_NORM = (
    ("weight", "scale", VECTOR),
    ("bias", "bias", VECTOR),
    ("running_mean", "mean", VECTOR),
    ("running_var", "var", VECTOR),
)
_DOUBLE_CONV = (
    ("0.weight", "conv1/kernel", CONV),
    ("0.bias", "conv1/bias", VECTOR),
    *((f"1.{source}", f"norm1/{target}", axes) for source, target, axes in _NORM),
    ("3.weight", "conv2/kernel", CONV),
    ("3.bias", "conv2/bias", VECTOR),
    *((f"4.{source}", f"norm2/{target}", axes) for source, target, axes in _NORM),
)
_DOUBLE_CONVS = (
    ("inc", "inc"),
    ("down{down}.maxpool_conv.1", "down{down}"),
    ("up{up}.conv", "up{up}/conv"),
)

RULES: tuple[Rule, ...] = (
    *(
        Rule(f"{block_source}.double_conv.{source}", f"{block_target}/{target}", axes)
        for block_source, block_target in _DOUBLE_CONVS
        for source, target, axes in _DOUBLE_CONV
    ),
    Rule("up{up}.up.weight", "up{up}/upsample/kernel", CONV_TRANSPOSE),
    Rule("up{up}.up.bias", "up{up}/upsample/bias", VECTOR),
    Rule("linear_{linear}.weight", "classifier/linear{linear}/kernel", LINEAR),
    Rule("linear_{linear}.bias", "classifier/linear{linear}/bias", VECTOR),
    Rule("outc.conv.weight", "outc/kernel", CONV),
    Rule("outc.conv.bias", "outc/bias", VECTOR),
)

BLOCK = r"(?:inc|down\d+|up\d+|outc|linear_\d+)\."
"""The names of the network's blocks; a tensor elsewhere is not the network's."""

IGNORED: dict[str, str] = {
    "*.num_batches_tracked": "read only by a BatchNorm with cumulative averages",
    "mask_values": "grey levels of the training masks, stored by the parent project",
    **{
        f"down{{spare}}.*.{leaf}": "stored below the deepest level that a head reads"
        for leaf in ("weight", "bias", "running_mean", "running_var")
    },
}
"""Tensors of the source that the network does not use, kept beside the weights; and why not.

They are patterns as in fnmatch; `{spare}` is the number after the deepest `{down}`.
"""
COMPANY: dict[str, str] = {
    "*total_ops": "counted by a profiler",
    "*total_params": "counted by a profiler",
    "": "not of the network",
}
"""The same of tensors that others than the network own, which may be of any type.

The last row is for all that lies outside the network's blocks.
"""


class Remap(NamedTuple):
    """Where each tensor of one source goes, and what is wrong with it."""

    rules: dict[str, Rule]  # by key of the source
    unused: dict[str, str]  # key of the source -> reason
    company: dict[str, str]  # the same of tensors that are not of the network
    problems: list[str]  # empty when the invariants hold


@functools.cache
def expand(config: UNetConfig) -> tuple[Rule, ...]:
    """The rules that set a leaf of the network of `config`, with its numbers filled in."""
    leaves = weight_shapes(config)
    most = max(config.levels, len(config.classifier_widths or ()) + 1)
    expanded = []
    for rule in RULES:
        for number in range(1, most + 1 if "{" in rule.source else 2):
            values = dict.fromkeys(("down", "up", "linear"), number)
            source, target = rule.source.format(**values), rule.target.format(**values)
            if target in leaves:  # not every network has so many levels, or biases, ...
                expanded.append(Rule(source, target, rule.axes))
    return tuple(expanded)


def match(config: UNetConfig, shapes: Mapping[str, Shape]) -> Remap:
    """Matches the keys and shapes of a source with the network of `config`."""
    leaves = weight_shapes(config)
    rules = expand(config)
    by_key: dict[str, list[Rule]] = {}
    for rule in rules:
        by_key.setdefault(rule.source, []).append(rule)
    ignored = {of.format(spare=config.levels + 1): reason for of, reason in IGNORED.items()}

    used: dict[str, Rule] = {}
    unused: dict[str, str] = {}
    company: dict[str, str] = {}
    problems = []
    for key, shape in shapes.items():
        hits = by_key.get(key, [])
        reasons = [reason for pattern, reason in ignored.items() if fnmatchcase(key, pattern)]
        if len(hits) + len(reasons) > 1:
            problems.append(f"ambiguous  {key}: {len(hits) + len(reasons)} rows of the table match")
        elif reasons:
            unused[key] = reasons[0]
        elif (reason := _company(key)) is not None:
            company[key] = reason
        elif not hits:
            problems.append(_unexpected(key, shape))
        else:
            used[key] = hits[0]
            if (expected := source_shape(hits[0], leaves)) != tuple(shape):
                problems.append(f"shape      {key}: expected {expected}, found {shape}")

    times_set = Counter(rule.target for rule in used.values())
    source_of = {rule.target: rule for rule in rules}
    for path in leaves:
        if times_set[path] > 1:
            problems.append(f"ambiguous  {path}: set by {times_set[path]} tensors")
        elif times_set[path] == 0 and path in source_of:
            expected = source_shape(source_of[path], leaves)
            problems.append(
                f"missing    {source_of[path].source}: expected {expected}, found nothing"
            )
        elif times_set[path] == 0:
            problems.append(f"missing    a rule of the table that sets {path}")
    if problems:  # only beside a complete network may anything stand
        foreign = [key for key, reason in company.items() if reason == COMPANY[""]]
        problems = [_unexpected(key, shapes[key]) for key in foreign] + problems
    return Remap(used, unused, company, problems)


def _company(key: str) -> str | None:
    """Why a tensor is not of the network, or None where it may be."""
    for pattern, reason in COMPANY.items():
        if fnmatchcase(key, pattern) or (not pattern and not re.match(BLOCK, key)):
            return reason
    return None


def _unexpected(key: str, shape: Shape) -> str:
    return f"unexpected {key}: expected no such tensor, found {shape}"


def to_flax(
    rules: Mapping[str, Rule], tensors: Mapping[str, np.ndarray], dtype: type = np.float32
) -> Tree:
    """The weights as a tree for `flax_unet.checkpoint.store`."""
    tree: Tree = {}
    for key, rule in rules.items():
        *steps, leaf = rule.target.split("/")
        branch = functools.reduce(lambda of, step: of.setdefault(step, {}), steps, tree)
        branch[leaf] = np.asarray(tensors[key].transpose(rule.axes), dtype, order="C")
    return tree


def to_torch(rules: Mapping[str, Rule], weights: Tree) -> dict[str, np.ndarray]:
    """The inverse of `to_flax`: the tensors by their PyTorch key, float32."""

    def leaf(target: str) -> np.ndarray:
        branch: Any = weights
        for step in target.split("/"):
            branch = branch[step]
        return branch

    return {
        key: np.asarray(leaf(rule.target).transpose(np.argsort(rule.axes)), order="C")
        for key, rule in rules.items()
    }


def source_shape(rule: Rule, leaves: Mapping[str, Shape]) -> Shape:
    """The shape that the rule's source must have, given the shapes of the target's leaves."""
    shape = leaves[rule.target]
    return tuple(shape[rule.axes.index(axis)] for axis in range(len(shape)))
