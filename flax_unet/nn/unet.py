"""U-YNet: one U-Net backbone, a classifier (real or fake), a decoder (which pixels)."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike

from flax_unet.nn.config import IMAGE_CHANNELS, MASK_CLASSES, UNetConfig, pooled_part
from flax_unet.nn.decision import is_real
from flax_unet.nn.layers import Conv, ConvTranspose, DoubleConv, linear, max_pool, upsample_bilinear


class UNetOutput(NamedTuple):
    """The output for a batch; None for a head that the network lacks.

    The polarities are opposed, as published: the classifier's 1 is REAL, the mask's 1 MANIPULATED.
    """

    mask_logits: jax.Array | None  # (B, H, W, 2) float32: class 0 untouched, 1 manipulated
    real_logit: jax.Array | None  # (B,) float32: the log-odds of REAL

    @property
    def real_probability(self) -> jax.Array | None:
        """(B,) in [0, 1], or None without a classifier."""
        return None if self.real_logit is None else nnx.sigmoid(self.real_logit)

    @property
    def is_real(self) -> jax.Array | None:
        """(B,) bool: the published decision, by which exactly 0.5 is FAKE."""
        return None if self.real_probability is None else is_real(self.real_probability)

    @property
    def is_manipulated(self) -> jax.Array | None:
        """(B, H, W) bool: pixels whose class is 1, or None without a mask head."""
        if self.mask_logits is None:
            return None
        return self.mask_logits[..., 1] > self.mask_logits[..., 0]


class Up(nnx.Module):
    """One step of the decoder: upsample, append to the skip connection, DoubleConv."""

    def __init__(self, config: UNetConfig, level: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        skip = config.widths[level]
        below, mid, out = config.up_widths(level)
        if config.upsampling == "transposed":
            self.upsample = ConvTranspose(below, skip, dtype=dtype, rngs=rngs)
        else:
            self.upsample = upsample_bilinear
        self.conv = DoubleConv(2 * skip, mid, out, bias=config.conv_bias, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        """(B, H, W, below), (B, 2H, 2W, skip) -> (B, 2H, 2W, out)."""
        return self.conv(skip, self.upsample(x))


class Classifier(nnx.Module):
    """The maximum of each channel over `pooled_part` of the map, then linear layers with ReLU."""

    def __init__(
        self, features_in: int, widths: tuple[int, ...], *, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        self.depth = len(widths) + 1
        for i, sizes in enumerate(itertools.pairwise((features_in, *widths, 1)), start=1):
            setattr(self, f"linear{i}", linear(*sizes, dtype=dtype, rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, H, W, features_in) -> (B,), the log-odds of REAL."""
        rows, columns = pooled_part(*x.shape[1:3])
        x = x[:, :rows, :columns].max((1, 2))
        for i in range(1, self.depth):
            x = nnx.relu(getattr(self, f"linear{i}")(x))
        return getattr(self, f"linear{self.depth}")(x)[:, 0]


class UNet(nnx.Module):
    """The network that a `UNetConfig` describes, with PyTorch's initial values.

    Parameters and statistics are float32. `dtype` is that of the convolutions, float32 or
    bfloat16; the heads compute in float32. (float64 throughout is for comparisons: it needs
    JAX's 64-bit mode, and parameters of that type.)
    """

    def __init__(
        self, config: UNetConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ) -> None:
        self.config = config
        self.dtype = dtype
        head_dtype = jnp.promote_types(dtype, jnp.float32)
        widths = config.widths
        double_conv = functools.partial(DoubleConv, bias=config.conv_bias, dtype=dtype, rngs=rngs)
        self.inc = double_conv(config.in_channels, widths[0], widths[0])
        for level in range(1, config.levels + 1):
            width = widths[level]
            setattr(self, f"down{level}", double_conv(widths[level - 1], width, width))
        if config.classifier_widths is not None:
            self.classifier = Classifier(
                widths[-1], config.classifier_widths, dtype=head_dtype, rngs=rngs
            )
        if config.has_mask_head:
            for step in range(1, config.decoder_levels + 1):
                up = Up(config, config.decoder_levels - step, dtype=dtype, rngs=rngs)
                setattr(self, f"up{step}", up)
            self.outc = Conv(widths[0], MASK_CLASSES, 1, dtype=head_dtype, rngs=rngs)

    def __call__(self, image: ArrayLike) -> UNetOutput:
        """Classifies and segments a batch (B, H, W, 3), floating point in [0, 1].

        H and W are divisible by `config.stride`. A network that reads grey pictures turns them
        grey first (see `grey`), or takes them as (B, H, W, 1).

        Raises:
            ValueError: the array has another shape or dtype; the message says what would work.
        """
        image = jnp.asarray(image)
        check_image(image, self.config)
        if image.shape[-1] != self.config.in_channels:
            image = grey(image)
        maps = [self.inc(image.astype(self.dtype))]
        for level in range(1, self.config.levels + 1):
            pooled = max_pool(maps[-1])
            maps.append(getattr(self, f"down{level}")(pooled))
        real_logit = mask_logits = None
        if self.config.has_classifier:
            real_logit = self.classifier(maps[-1])
        if self.config.has_mask_head:
            x = maps[self.config.decoder_levels]
            for step in range(1, self.config.decoder_levels + 1):
                x = getattr(self, f"up{step}")(x, maps[self.config.decoder_levels - step])
            mask_logits = self.outc(x)
        return UNetOutput(mask_logits, real_logit)


def grey(image: jax.Array) -> jax.Array:
    """(B, H, W, 3) in [0, 1] -> (B, H, W, 1), as PIL turns 8-bit pictures to its mode L.

    That is 0.299 red + 0.587 green + 0.114 blue, rounded to a 255th. All sums are of whole numbers
    below 2**24, which float32 holds exactly.
    """
    levels = jnp.round(image.astype(jnp.promote_types(image.dtype, jnp.float32)) * 255)
    red, green, blue = jnp.split(levels, IMAGE_CHANNELS, axis=-1)
    rounded = jnp.floor((19595 * red + 38470 * green + 7471 * blue + 2**15) / 2**16)
    return rounded / 255


def check_image(image: jax.Array, config: UNetConfig) -> None:
    """Raises a ValueError unless a network can read the image, as `UNet.__call__` describes it."""
    channels = sorted({IMAGE_CHANNELS, config.in_channels}, reverse=True)
    if image.ndim != 4 or image.shape[-1] not in channels:
        expected = " or ".join(f"(B, H, W, {count})" for count in channels)
        raise ValueError(f"the image has shape {image.shape}; expected {expected}")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"the image is {image.dtype}; expected float32 in [0, 1] (divide by 255)")
    stride = config.stride
    height, width = image.shape[1:3]
    if height % stride or width % stride or not height or not width:
        down = [max(side // stride, 1) * stride for side in (height, width)]
        up = [max(-(-side // stride), 1) * stride for side in (height, width)]
        sizes = dict.fromkeys(f"{rows}x{columns}" for rows, columns in (down, up))
        raise ValueError(
            f"the image is {height}x{width}; both sides must be divisible by {stride}. "
            f"The nearest sizes that work: {', '.join(sizes)}"
        )


def normalised(image: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Pictures in 0 ... 255 as the network's input: divided by 255, on the device."""
    return image.astype(dtype) / 255
