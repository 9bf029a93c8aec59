"""Identifies the published layout of a state dict by its keys and shapes."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from convert.mapping import BLOCK, Remap, match
from flax_unet.nn.config import IMAGE_CHANNELS, PUBLISHED, WITH_UNUSED_LEVEL, Size, UNetConfig
from flax_unet.nn.shapes import Shape
from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import shown

_DEEP_IMAGE_SIZE = 320  # what the published networks with five levels were trained at
_MOST_SHOWN = 10  # differences that a message lists
_MOST_BLOCKS = {"down": 12, "up": 12, "linear_": 65}  # numbers beyond are not of U-Nets
_ADVICE = {  # what such tensors are of, and how to get rid of them
    r".*_(orig|u|v)$": "torch.nn.utils.remove_spectral_norm(layer)",
    r".*\.parametrizations\..*": "torch.nn.utils.parametrize.remove_parametrizations(layer, name)",
}


def identify(shapes: Mapping[str, Shape]) -> tuple[str, UNetConfig, Remap]:
    """Finds the network that a state dict belongs to; its keys are without wrappers' prefixes.

    Returns:
        The layout's name, its configuration, and where each tensor goes.

    Raises:
        InputError: no layout fits. The message names the nearest and every difference.
    """
    config = _infer(shapes)
    if config is not None:
        remap = match(config, shapes)
        if not remap.problems:
            return _name(config, remap), config, remap
    nearest, remap = min(
        ((candidate, match(candidate, shapes)) for candidate in _candidates(config, shapes)),
        key=lambda pair: len(pair[1].problems),
    )
    problems = remap.problems
    lines = [shown(problem) for problem in problems[:_MOST_SHOWN]]
    if rest := Counter(problem.split()[0] for problem in problems[_MOST_SHOWN:]):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in rest.items())
        lines.append(f"and {rest.total():,} more: {kinds}")
    advice = [
        f"\nFirst remove what computes these tensors: {way}"
        for pattern, way in _ADVICE.items()
        if any(re.match(pattern, key) for key in shapes if re.match(BLOCK, key))
    ]
    raise InputError(
        f"the tensors fit no known layout. The nearest is {_name(nearest, remap)}, from which it "
        f"differs in {len(problems)} tensor{'s' * (len(problems) != 1)}:\n  "
        + "\n  ".join(lines)
        + "".join(advice)
        + "\nCheck that the file is a U-YNet or U-Net state dict and complete"
    )


def usual_size(levels: int) -> int | Size:
    """What pictures were resized to for the published networks of so many levels, in pixels."""
    return _DEEP_IMAGE_SIZE if levels > 4 else UNetConfig.image_size


def _infer(shapes: Mapping[str, Shape]) -> UNetConfig | None:
    """The configuration that a complete state dict of any base width implies, if there is one."""
    levels, ups, linears = (_count(shapes, block, most) for block, most in _MOST_BLOCKS.items())
    base_width = _base_width(shapes)
    if base_width is None:
        return None
    classifier_level, widths = 0, None
    if linears:
        rows = [shapes.get(f"linear_{i}.weight", ()) for i in range(1, linears + 1)]
        if any(len(row) != 2 for row in rows):
            return None
        widths = tuple(row[0] for row in rows[:-1])
        last = "down{}.maxpool_conv.1.double_conv.3.weight"
        outputs = {n: shapes.get(last.format(n), ())[:1] for n in range(1, levels + 1)}
        fitting = (n for n, out in outputs.items() if out == (rows[0][1],))
        classifier_level = max(fitting, default=0)
    used_levels = max(classifier_level, ups)
    try:
        return UNetConfig(
            base_width=base_width,
            levels=used_levels,
            decoder_levels=ups,
            classifier_widths=widths,
            upsampling="transposed" if not ups or "up1.up.weight" in shapes else "bilinear",
            conv_bias="inc.double_conv.0.bias" in shapes,
            image_size=usual_size(used_levels),
            in_channels=_in_channels(shapes),
            narrow_decoder=_is_narrow(shapes),
        )
    except ValueError:
        return None


def _candidates(inferred: UNetConfig | None, shapes: Mapping[str, Shape]) -> Iterator[UNetConfig]:
    """Networks that a state dict which fits none might have been meant to be."""
    base_width = _base_width(shapes) or UNetConfig.base_width
    found = {
        "conv_bias": "down1.maxpool_conv.1.double_conv.0.bias" in shapes,
        "in_channels": _in_channels(shapes),
    }
    for config in dict.fromkeys(PUBLISHED.values()):
        yield dataclasses.replace(config, base_width=base_width, **found)
        yield config
    if inferred is not None:  # last: where a published one is as near, it is what was meant
        yield inferred


def published_names(config: UNetConfig) -> list[str]:
    """The published layouts of a network, whatever its widths, bias and pictures."""
    return [
        name
        for name, published in PUBLISHED.items()
        if published
        == dataclasses.replace(
            config,
            base_width=published.base_width,
            conv_bias=published.conv_bias,
            image_size=published.image_size,
            in_channels=published.in_channels,
            narrow_decoder=published.narrow_decoder,
        )
    ]


def _name(config: UNetConfig, remap: Remap) -> str:
    """The published layout of that shape, and in what it differs from it."""
    has_unused_level = any(key.startswith(f"down{config.levels + 1}.") for key in remap.unused)
    names = published_names(config)
    # ynet-224 and ynet-slim are one network; a relative may store an unused level too.
    names.sort(key=lambda name: (name in WITH_UNUSED_LEVEL) != has_unused_level)
    name = names[0] if names else f"a U-Net of {config.levels} levels"
    details = []
    if config.base_width != UNetConfig.base_width:
        details.append(f"base width {config.base_width}")
    if not config.conv_bias:
        details.append("convolutions without bias")
    if config.in_channels != IMAGE_CHANNELS:
        details.append("grey pictures")
    if config.narrow_decoder:
        details.append("narrow decoder")
    return ", ".join([name, *details])


def _base_width(shapes: Mapping[str, Shape]) -> int | None:
    """The width that most tensors of `inc` agree on: one wrong tensor must not change it."""
    widths = Counter(
        shape[0] for key, shape in shapes.items() if key.startswith("inc.") and len(shape) > 0
    )
    width = max(widths, key=widths.__getitem__, default=0)
    return width or None


def _in_channels(shapes: Mapping[str, Shape]) -> int:
    shape = shapes.get("inc.double_conv.0.weight", ())
    return 1 if shape[1:2] == (1,) else IMAGE_CHANNELS


def _is_narrow(shapes: Mapping[str, Shape]) -> bool:
    """Whether the first convolution of a step up gives less than the skip connection has."""
    shape = shapes.get("up1.conv.double_conv.0.weight", ())
    return len(shape) == 4 and shape[1] == 4 * shape[0]


def _count(shapes: Mapping[str, Shape], block: str, most: int) -> int:
    """How many numbered blocks there are: the largest number, up to `most`."""
    pattern = re.compile(rf"{block}(\d{{1,3}})\.")
    found = {int(m.group(1)) for key in shapes if (m := pattern.match(key))}
    return max((n for n in found if n <= most), default=0)
