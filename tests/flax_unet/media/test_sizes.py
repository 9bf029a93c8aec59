"""Which keyframes are decoded to find the sizes of a video's frames."""

import math
from typing import Any

import av
import pytest

from flax_unet.media.sizes import Survey

START = b"\x00\x00\x00\x01"
AVC = bytes.fromhex("674d400a96560c1a"), b"\x68\xee\x3c\x80"  # parameters: sequence, picture
# In the profile, before the size, two zero bytes, 3 that keeps them apart, two more.
HEVC = (
    bytes.fromhex("420101049d0800000300005d90011008"),
    bytes.fromhex("4401c172b46240"),
)


class Recorder:
    """A codec that shows which packets it is given, and decodes none."""

    width, height = 640, 480

    def __init__(self, name: str) -> None:
        self.codec = av.Codec(name, "r")
        self.decoded: list[bytes] = []

    def decode(self, packet: Any) -> list[Any]:
        self.decoded += [] if packet is None else [bytes(packet)]
        return []

    def flush_buffers(self) -> None:
        pass


def keyframe(*units: bytes, has_lengths: bool = False) -> av.Packet:
    parts = [(len(u).to_bytes(4) if has_lengths else START) + u for u in units]
    packet = av.Packet(b"".join(parts))
    packet.is_keyframe = True
    return packet


def survey(name: str, packets: list[av.Packet], max_pixels: float = math.inf) -> list[bytes]:
    """The packets that are decoded."""
    codec: Any = Recorder(name)
    found = Survey(codec, lambda frame: (frame.width, frame.height), max_pixels)
    for packet in packets:
        found.see(packet)
    return codec.decoded


@pytest.mark.parametrize("has_lengths", [True, False])
@pytest.mark.parametrize(("name", "units"), [("h264", AVC), ("hevc", HEVC)])
def test_parameters_are_compared_whole_and_alone(
    name: str, units: tuple[bytes, ...], has_lengths: bool
) -> None:
    """Not the picture behind them, which differs in each keyframe."""
    sequence, picture = units
    other = bytearray(sequence)
    other[-2] ^= 0x20
    packets = [
        keyframe(parameters, picture, bytes([0x65, number]) * 100, has_lengths=has_lengths)
        for number, parameters in enumerate([sequence, sequence, bytes(other), sequence])
    ]
    assert survey(name, packets) == [bytes(packets[0]), bytes(packets[2])]


def test_no_more_pixels_are_decoded_than_allowed() -> None:
    packets = [keyframe(bytes([0x67, 1, number, 1]), *AVC[1:]) for number in range(9)]
    assert len(survey("h264", packets, 3 * 640 * 480)) == 3
    assert len(survey("h264", packets, 1)) == 1
