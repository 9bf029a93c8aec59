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
# Here, where reading begins within a packet, FFmpeg gives the rest of it the time of the next one,
# and that one a later time: reading begins at the keyframe before the one that is sought.
_SOUGHT_EARLY = {"mpeg"}
_REORDERED = 32  # places; codecs move a frame by at most 16


class Keyframe(NamedTuple):
    """A frame that decoding can start at: times in units of the stream."""

    time: int
    start: int  # time to seek for it
    size: int  # bytes of its packet
    position: int | None  # of that in the file

    def is_in(self, packet: Packet) -> bool:
        """Whether a packet, read after seeking, is this frame's."""
        found = packet.pts, packet.size, packet.pos
        return packet.is_keyframe and found == (self.time, self.size, self.position)


class Index(NamedTuple):
    """Where frames are."""

    shown: list[int]  # times of all frames, by number
    keys: list[Keyframe]  # in order

    def before(self, time: int) -> Keyframe:
        """The last keyframe up to a time."""
        return self.keys[bisect.bisect_right(self.keys, time, key=lambda key: key.time) - 1]

    def first(self, number: int) -> int:
        """The number of the frame that decoding starts at to read another."""
        return bisect.bisect_left(self.shown, self.before(self.shown[number]).time)


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
    keys: list[Keyframe] = []
    previous: int | None = None  # start of the last keyframe
    for packet in packets:
        yield None
        if packet is None:
            continue
        if packet.pts is None or packet.is_corrupt:
            return None
        if keys and packet.has_sidedata("new_extradata"):  # seeking would pass over it
            return None
        if packet.is_keyframe:
            by_dts = packet.dts if form in _SOUGHT_BY_DTS else None
            start = packet.pts if by_dts is None else by_dts
            sought = previous if previous is not None and form in _SOUGHT_EARLY else start
            keys.append(Keyframe(packet.pts, sought, packet.size, packet.pos))
            previous = start
        elif not keys or form == "avi":  # which has no times of frames that are moved
            return None
        if not packet.is_discard:
            times.append(packet.pts)
    shown = sorted(times)
    places = {time: place for place, time in enumerate(shown)}
    is_exact = (
        0 < len(places) == len(times)
        and shown[0] >= keys[0].time
        and keys == sorted(keys)
        and all(abs(places[time] - n) <= _REORDERED for n, time in enumerate(times))
    )
    return Index(shown, keys) if is_exact else None
