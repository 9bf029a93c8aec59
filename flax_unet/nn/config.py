"""The architecture: `UNetConfig`, and the published variants by name."""

import dataclasses
from typing import Any, Literal, Self, get_args

IMAGE_CHANNELS = 3  # red, green, blue
MASK_CLASSES = 2  # 0 untouched, 1 manipulated
DTYPES = ("float32", "bfloat16")  # what convolutions compute in

Upsampling = Literal["transposed", "bilinear"]
Size = tuple[int, int]
"""(height, width) in pixels."""

_MOST_LAYERS = 64  # hidden ones of a classifier
_MOST_PIXELS = 2**13  # along one side
# The published classifier pools the deepest map by 2 and then by 7, rounding down. That runs where
# one window of 14 fits along each side and a second one does not.
_POOLED = 2 * 7


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """The architecture of one network; together with the weights it is a model.

    Raises:
        ValueError: a field is out of range, or no head is left. The message names the field.
    """

    base_width: int = 64  # channels of the first level; each level below has twice as many
    levels: int = 4  # 2x2 max-pools in the encoder; the classifier reads the deepest map
    decoder_levels: int = 4  # the map that the decoder starts from; 0: no mask head
    classifier_widths: tuple[int, ...] | None = (512,)  # hidden layers; None: no classifier
    upsampling: Upsampling = "transposed"
    conv_bias: bool = True  # whether the 3x3 convolutions have one
    # What pictures are resized to: the side in pixels, or (height, width). The network itself also
    # takes other sizes.
    image_size: int | Size = 224
    in_channels: int = IMAGE_CHANNELS  # 1: the network reads grey pictures
    # Whether both convolutions of a step up give what the next step takes, as in the parent
    # project's first versions.
    narrow_decoder: bool = False

    def __post_init__(self) -> None:
        if self.classifier_widths is not None:
            object.__setattr__(self, "classifier_widths", tuple(self.classifier_widths))
        sides: Any = self.image_size
        sides = tuple(sides) if isinstance(sides, list | tuple) else (sides, sides)
        square = len(sides) == 2 and sides[0] == sides[1]  # has one form: a number
        object.__setattr__(self, "image_size", sides[0] if square else sides)
        hidden = self.classifier_widths or ()
        counts = {
            "base_width": (self.base_width, 2**12),
            "levels": (self.levels, 12),
            **{
                f"classifier_widths[{i}]": (width, 2**16)
                for i, width in enumerate(hidden[: _MOST_LAYERS + 1])
            },
        }
        for name, (value, most) in counts.items():
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{name} is {value!r:.20}; it must be a whole number, 1 to {most}")
        if len(sides) != 2 or not all(type(s) is int and 1 <= s <= _MOST_PIXELS for s in sides):
            raise ValueError(
                f"image_size is {self.image_size!r:.40}; it must be a whole number or (height, "
                f"width), each 1 to {_MOST_PIXELS}"
            )
        if len(hidden) > _MOST_LAYERS:
            raise ValueError(
                f"classifier_widths has {len(hidden)} layers; at most {_MOST_LAYERS} are allowed"
            )
        if type(self.decoder_levels) is not int or not 0 <= self.decoder_levels <= self.levels:
            raise ValueError(
                f"decoder_levels is {self.decoder_levels!r}; it must be 0 (no mask head) "
                f"to levels = {self.levels}"
            )
        if self.upsampling not in get_args(Upsampling):
            raise ValueError(
                f"upsampling is {self.upsampling!r}; it must be one of {get_args(Upsampling)}"
            )
        for name in ("conv_bias", "narrow_decoder"):
            if type(value := getattr(self, name)) is not bool:
                raise ValueError(f"{name} is {value!r}; it must be true or false")
        if type(self.in_channels) is not int or self.in_channels not in (1, IMAGE_CHANNELS):
            raise ValueError(f"in_channels is {self.in_channels!r:.20}; it must be 1 or 3")
        if not self.has_classifier and self.decoder_levels != self.levels:
            raise ValueError(
                f"no head reads level {self.levels}: decoder_levels is {self.decoder_levels} "
                "and classifier_widths is None"
            )
        if any(side % self.stride for side in sides):
            raise ValueError(
                f"image_size is {self.image_size}; it must be divisible by "
                f"2**levels = {self.stride}"
            )

    @property
    def input_size(self) -> Size:
        """(height, width) in pixels that pictures are resized to."""
        size = self.image_size
        return size if isinstance(size, tuple) else (size, size)

    @property
    def reads_part_of_map(self) -> bool:
        """Whether the classifier at `input_size` reads a part of the deepest map alone."""
        deepest = self._deepest_map
        return self.has_classifier and pooled_part(*deepest) != deepest

    @property
    def _deepest_map(self) -> Size:
        height, width = self.input_size
        return height // self.stride, width // self.stride

    @property
    def pooling_note(self) -> str | None:
        """How the classifier's pooling at `input_size` differs from that at the published size.

        None where it does not, and without a classifier.
        """
        rows, columns = self._deepest_map
        size, deepest = shown_size(self.input_size), f"deepest map of {rows}x{columns}"
        if self.reads_part_of_map:
            return (
                f"at {size} pixels the classifier reads the first {_POOLED} rows and {_POOLED} "
                f"columns of its {deepest}, as published"
            )
        if not self.has_classifier or (rows, columns) in ((_POOLED, _POOLED), _PUBLISHED_DEEP_MAP):
            return None
        return (
            f"at {size} pixels the published pools of 2 and 7 do not fit a {deepest}; the "
            "classifier takes the maximum of the whole map instead"
        )

    @property
    def has_mask_head(self) -> bool:
        """Whether the network marks manipulated pixels."""
        return self.decoder_levels > 0

    @property
    def has_classifier(self) -> bool:
        """Whether the network classifies REAL and FAKE."""
        return self.classifier_widths is not None

    @property
    def stride(self) -> int:
        """Pixels of the picture, along one side, to one of the deepest map."""
        return 2**self.levels

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the encoder's maps, from full resolution to the deepest."""
        widths = [self.base_width * 2**level for level in range(self.levels + 1)]
        if self._halves_early and self.has_mask_head:
            # Nothing halves the channels on the way up, so the decoder starts from half as many.
            widths[self.decoder_levels] //= 2
        return tuple(widths)

    @property
    def _halves_early(self) -> bool:
        """Whether a step of the decoder gives as many channels as the next one's skip has."""
        return self.upsampling == "bilinear" or self.narrow_decoder

    def up_widths(self, level: int) -> tuple[int, int, int]:
        """Channels of the decoder's step to a level: of its input, between, of its output."""
        skip = self.widths[level]
        if not self._halves_early:
            return self.widths[level + 1], skip, skip
        out = self.widths[max(level - 1, 0)]
        return skip, out if self.narrow_decoder else skip, out

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; `image_size` is [height, width] where these differ."""
        fields = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: a field is unknown, or its value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown fields {unknown}; known are {sorted(known)}")
        try:
            return cls(**fields)
        except TypeError as error:  # a list where a number belongs
            raise ValueError(str(error)) from error


def pooled_part(rows: int, columns: int) -> Size:
    """How many rows and columns of the deepest map the classifier takes its maximum over.

    Where the published pools of 2 and 7 run, on maps of 14 to 27 rows and columns, they read the
    first 14 of each. On other maps, where the published code fails, it is the whole map.
    """
    if all(_POOLED <= side < 2 * _POOLED for side in (rows, columns)):
        return _POOLED, _POOLED
    return rows, columns


def shown_size(size: Size) -> str:
    """(height, width) as text: 320x224."""
    return f"{size[0]}x{size[1]}"


_SEGMENTER = UNetConfig(classifier_widths=None)
_YNET_320 = UNetConfig(levels=5, classifier_widths=(1024, 512), image_size=320)
_PUBLISHED_DEEP_MAP = (10, 10)  # of these networks, whose classifier reads all of it

PUBLISHED: dict[str, UNetConfig] = {
    "ynet-224": UNetConfig(),
    "ynet-slim": UNetConfig(),
    "ynet-320": _YNET_320,
    "classifier-224": UNetConfig(decoder_levels=0),
    "classifier-320": dataclasses.replace(_YNET_320, decoder_levels=0),
    "segmenter-224": _SEGMENTER,
    "segmenter-bilinear": dataclasses.replace(_SEGMENTER, upsampling="bilinear"),
}
"""The networks of the published checkpoints, by the name of their layout."""
WITH_UNUSED_LEVEL = frozenset({"ynet-224"})
"""Layouts whose files also store a level below the deepest, which nothing reads."""
