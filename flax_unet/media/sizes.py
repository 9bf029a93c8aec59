"""Finds the sizes of a video's frames, from the keyframes at which they may change."""

import re
from collections.abc import Callable

from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from flax_unet.media.rgb import Size
from flax_unet.media.videos import LEAST_PIXELS

# In these, the frames' size and the shape of their pixels may change at a keyframe. Where the
# packets of keyframes have both, or parameters that include both, by codec:
_CHANGING = {"matroska", "mpegts", "mpeg", "flv"}
_END = rb"(?:\x00\x00[\x00-\x02]|\Z)"  # bytes that H.264 and HEVC have between units alone
_PARAMETERS = {
    "vp8": rb"\x9d\x01\x2a(.{4})",
    "vp9": rb"^(.{9})",
    "av1": rb"\x0a.(.{10})",  # behind the mark of the sequence's header
    "h264": rb"\x00\x00.[\x27\x47\x67](.+?)" + _END,  # the sequence's parameters
    "hevc": rb"\x00\x00.\x42\x01(.+?)" + _END,
    "mpeg1video": rb"\x00\x00\x01\xb3(.{4})",
    "mpeg2video": rb"\x00\x00\x01\xb3(.{4})",
}
_WITHIN = 256  # bytes


def may_change(form: str, codec: str) -> bool:
    """Whether frames may change their size midway, by FFmpeg's names of container and codec."""
    return form in _CHANGING and codec in _PARAMETERS


class Survey:
    """Decodes the keyframes of a video that have new parameters, or the first that has none.

    Attributes:
        sizes: those of the frames that were decoded, with square pixels.
    """

    def __init__(
        self,
        codec: VideoCodecContext,
        square: Callable[[VideoFrame], Size],
        max_pixels: float,
    ) -> None:
        """At most `max_pixels` are decoded, though one frame in any case."""
        self.sizes: set[Size] = set()
        self._codec, self._square, self._left = codec, square, max_pixels
        self._pattern = re.compile(_PARAMETERS[codec.codec.canonical_name], re.DOTALL)
        self._seen: set[tuple[bytes, bytes | None]] = set()

    def see(self, packet: Packet) -> None:
        """Looks at the next packet of the video."""
        if self._left <= 0 or not packet.is_keyframe or packet.is_corrupt:
            return
        found = self._pattern.search(bytes(memoryview(packet)[:_WITHIN]))
        # Without any, those that the container has elsewhere count.
        parameters = bytes(packet.get_sidedata("new_extradata")), found and found[1]
        if parameters in self._seen:
            return
        self._seen.add(parameters)
        self.sizes |= {self._square(frame) for frame in self._decoded(packet)}
        self._left -= max(self._codec.width * self._codec.height, LEAST_PIXELS)

    def _decoded(self, packet: Packet) -> list[VideoFrame]:
        """The frame of a keyframe; none if it is damaged."""
        try:
            frames = [*self._codec.decode(packet), *self._codec.decode(None)]
        except MemoryError:
            raise
        except FFmpegError:
            frames = []
        self._codec.flush_buffers()
        return [frame for frame in frames if not frame.is_corrupt]
