"""Finds where the frames of a video are, from its packets, without decoding them."""

import bisect
from collections.abc import Generator, Iterable
from typing import NamedTuple

from av.packet import Packet

# A packet of these codecs holds one frame to show: frames can be counted without decoding them.
_FRAME_A_PACKET = {
    *("h264", "hevc", "vvc", "av1", "vp9", "mpeg2video", "mjpeg", "prores", "dnxhd", "ffv1")
}
_SOUGHT_BY_DTS = {"mpeg", "mpegts"}
_REORDERED = 32  # places; codecs move a frame by at most 16


class Index(NamedTuple):
    """Where frames are: times in units of the stream."""

    shown: list[int]  # of all frames, by number
    keys: list[int]  # of those that decoding can start at
    starts: list[int]  # of seeking for each of these

    def before(self, time: int) -> tuple[int, int]:
        """The last keyframe up to a time, and the time to seek for it."""
        place = bisect.bisect_right(self.keys, time) - 1
        return self.keys[place], self.starts[place]

    def first(self, number: int) -> int:
        """The number of the frame that decoding starts at to read another."""
        key, _ = self.before(self.shown[number])
        return bisect.bisect_left(self.shown, key)


def indexed(
    packets: Iterable[Packet | None], codec: str, form: str
) -> Generator[None, None, Index | None]:
    """Returns the index of a video, or None where frames cannot be counted by packets.

    `packets` are all those of the video; those that are None are passed over. `codec` and `form`
    are FFmpeg's names of the codec and the container. Yields once a packet.
    """
    if codec not in _FRAME_A_PACKET:
        return None
    times: list[int] = []
    keys: list[int] = []
    starts: list[int] = []
    for packet in packets:
        yield None
        if packet is None:
            continue
        if packet.pts is None or packet.is_corrupt:
            return None
        if packet.is_keyframe:
            keys.append(packet.pts)
            by_dts = packet.dts if form in _SOUGHT_BY_DTS else None
            starts.append(packet.pts if by_dts is None else by_dts)
        elif not keys or form == "avi":  # which has no times of frames that are moved
            return None
        if not packet.is_discard:
            times.append(packet.pts)
    shown = sorted(times)
    places = {time: place for place, time in enumerate(shown)}
    is_exact = (
        0 < len(places) == len(times)
        and shown[0] >= keys[0]
        and keys == sorted(keys)
        and all(abs(places[time] - n) <= _REORDERED for n, time in enumerate(times))
    )
    return Index(shown, keys, starts) if is_exact else None
