"""The table: which PyTorch tensor becomes which Flax leaf, and how its axes move. Data only."""

from typing import NamedTuple

Axes = tuple[int, ...]

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


class Ignored(NamedTuple):
    """Tensors of the source that the network does not use; kept beside the weights."""

    source: str  # a pattern as in fnmatch; `{spare}` is the number after the deepest `{down}`
    reason: str


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

IGNORED: tuple[Ignored, ...] = (
    Ignored("*.num_batches_tracked", "read only by a BatchNorm with cumulative averages"),
    Ignored("mask_values", "grey levels of the training masks, stored by the parent project"),
    *(
        Ignored(f"down{{spare}}.*.{leaf}", "stored below the deepest level that a head reads")
        for leaf in ("weight", "bias", "running_mean", "running_var")
    ),
)
