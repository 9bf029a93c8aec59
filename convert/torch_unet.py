"""The PyTorch twin of `flax_unet.UNet`, written from the published layer table.

Its state dict has the keys, shapes and order of the published files, without the level that
ynet-224 stores and never uses.
"""

import itertools
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flax_unet.nn.config import MASK_CLASSES, UNetConfig


class DoubleConv(nn.Sequential):
    """(B, features_in, H, W) -> (B, features_out, H, W)."""

    def __init__(self, features_in: int, features_mid: int, features_out: int, bias: bool) -> None:
        layers: list[nn.Module] = []
        for width_in, width_out in ((features_in, features_mid), (features_mid, features_out)):
            layers.append(nn.Conv2d(width_in, width_out, 3, padding=1, bias=bias))
            layers.append(nn.BatchNorm2d(width_out))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(OrderedDict(double_conv=nn.Sequential(*layers)))


class Down(nn.Sequential):
    """(B, features_in, 2H, 2W) -> (B, features_out, H, W)."""

    def __init__(self, features_in: int, features_out: int, bias: bool) -> None:
        double_conv = DoubleConv(features_in, features_out, features_out, bias)
        layers = nn.Sequential(nn.MaxPool2d(2), double_conv)
        super().__init__(OrderedDict(maxpool_conv=layers))


class Up(nn.Module):
    """(B, below, H, W), (B, skip, 2H, 2W) -> (B, out, 2H, 2W)."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        skip = config.widths[level]
        below, mid, out = config.up_widths(level)
        if config.upsampling == "transposed":
            self.up = nn.ConvTranspose2d(below, skip, kernel_size=2, stride=2)
        else:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv = DoubleConv(2 * skip, mid, out, config.conv_bias)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


def _pool(deepest: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 1, 1), by the published pools where their result is that."""
    halved = [side // 2 for side in deepest.shape[2:]]
    if [side // 7 for side in halved] == [1, 1]:
        return F.max_pool2d(F.max_pool2d(deepest, 2), 7)
    return F.adaptive_max_pool2d(deepest, 1)


class ReferenceUNet(nn.Module):
    """The network of a `UNetConfig` in PyTorch, with the published names."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.inc = DoubleConv(config.in_channels, widths[0], widths[0], config.conv_bias)
        for level in range(1, config.levels + 1):
            down = Down(widths[level - 1], widths[level], config.conv_bias)
            self.add_module(f"down{level}", down)
        if config.classifier_widths is not None:
            sizes = (widths[-1], *config.classifier_widths, 1)
            for i, (size_in, size_out) in enumerate(itertools.pairwise(sizes), start=1):
                self.add_module(f"linear_{i}", nn.Linear(size_in, size_out))
        for step in range(1, config.decoder_levels + 1):
            self.add_module(f"up{step}", Up(config, config.decoder_levels - step))
        if config.has_mask_head:
            conv = nn.Conv2d(widths[0], MASK_CLASSES, kernel_size=1)
            self.outc = nn.Sequential(OrderedDict(conv=conv))

    def forward(self, image: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(B, in_channels, H, W) in [0, 1] -> mask logits (B, 2, H, W), real logit (B,)."""
        maps = [self.inc(image)]
        for level in range(1, self.config.levels + 1):
            maps.append(self.get_submodule(f"down{level}")(maps[-1]))
        mask_logits = real_logit = None
        if self.config.classifier_widths is not None:
            depth = len(self.config.classifier_widths) + 1
            x = _pool(maps[-1]).flatten(1)
            for i in range(1, depth):
                x = F.relu(self.get_submodule(f"linear_{i}")(x))
            real_logit = self.get_submodule(f"linear_{depth}")(x)[:, 0]
        if self.config.has_mask_head:
            x = maps[self.config.decoder_levels]
            for step in range(1, self.config.decoder_levels + 1):
                x = self.get_submodule(f"up{step}")(x, maps[self.config.decoder_levels - step])
            mask_logits = self.outc(x)
        return mask_logits, real_logit


def unused_level(config: UNetConfig) -> dict[str, Tensor]:
    """The level below the deepest that files of some layouts store and nothing reads, by key.

    Its values are drawn from PyTorch's generator.
    """
    width = config.widths[-1]
    level = Down(width, 2 * width, config.conv_bias).state_dict()
    return {f"down{config.levels + 1}.{key}": tensor for key, tensor in level.items()}


def shapes(config: UNetConfig, *, with_unused_level: bool = False) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a PyTorch state dict, in file order.

    `with_unused_level` is for files that store one more level than the network reads.
    """
    with torch.device("meta"):
        tensors = ReferenceUNet(config).state_dict()
        spare = unused_level(config) if with_unused_level else {}
    encoder = {key: value for key, value in tensors.items() if key.startswith(("inc.", "down"))}
    # Keys that stand there already keep their place.
    return {key: tuple(value.shape) for key, value in {**encoder, **spare, **tensors}.items()}
