"""What a U-YNet is made of: `UNetConfig`, and the published variants by name."""

import dataclasses
from typing import Any, Literal, Self, get_args

IMAGE_CHANNELS = 3
MASK_CLASSES = 2  # 0 untouched, 1 manipulated
DTYPES = ("float32", "bfloat16")  # what convolutions compute in

Upsampling = Literal["transposed", "bilinear"]


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
    image_size: int = 224  # side in pixels that pictures are resized to; other sizes work too

    def __post_init__(self) -> None:
        if self.classifier_widths is not None:
            object.__setattr__(self, "classifier_widths", tuple(self.classifier_widths))
        hidden = self.classifier_widths or ()
        counts = {
            "base_width": (self.base_width, 2**12),
            "levels": (self.levels, 12),
            "image_size": (self.image_size, 2**13),
            **{f"classifier_widths[{i}]": (width, 2**16) for i, width in enumerate(hidden[:9])},
        }
        for name, (value, most) in counts.items():
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{name} is {value!r:.20}; it must be a whole number, 1 to {most}")
        if len(hidden) > 8:
            raise ValueError(f"classifier_widths has {len(hidden)} layers; at most 8 are allowed")
        if type(self.decoder_levels) is not int or not 0 <= self.decoder_levels <= self.levels:
            raise ValueError(
                f"decoder_levels is {self.decoder_levels!r}; it must be 0 (no mask head) "
                f"to levels = {self.levels}"
            )
        if self.upsampling not in get_args(Upsampling):
            raise ValueError(
                f"upsampling is {self.upsampling!r}; it must be one of {get_args(Upsampling)}"
            )
        if type(self.conv_bias) is not bool:
            raise ValueError(f"conv_bias is {self.conv_bias!r}; it must be true or false")
        if not self.has_classifier and self.decoder_levels != self.levels:
            raise ValueError(
                f"no head reads level {self.levels}: decoder_levels is {self.decoder_levels} "
                "and classifier_widths is None"
            )
        if self.image_size % self.stride:
            raise ValueError(
                f"image_size is {self.image_size}; it must be divisible by "
                f"2**levels = {self.stride}"
            )

    @property
    def has_mask_head(self) -> bool:
        """Whether the network marks manipulated pixels."""
        return self.decoder_levels > 0

    @property
    def has_classifier(self) -> bool:
        """Whether the network tells REAL from FAKE."""
        return self.classifier_widths is not None

    @property
    def stride(self) -> int:
        """Pixels of the picture, along one side, to one of the deepest map."""
        return 2**self.levels

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the encoder's maps, from full resolution to the deepest."""
        widths = [self.base_width * 2**level for level in range(self.levels + 1)]
        if self.upsampling == "bilinear" and self.has_mask_head:
            # Nothing halves the channels on the way up, so the decoder starts from half as many.
            widths[self.decoder_levels] //= 2
        return tuple(widths)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self)

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


_SEGMENTER = UNetConfig(classifier_widths=None)
_YNET_320 = UNetConfig(levels=5, classifier_widths=(1024, 512), image_size=320)

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
