"""Decodes videos through PyAV (FFmpeg), in the process of `serve`."""

import collections
import contextlib
import itertools
import math
import struct
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.codec.context import CodecContext
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from flax_unet.media.images import MAX_PIXELS, too_large
from flax_unet.media.index import Index, Keyframe, indexed
from flax_unet.media.rgb import Converter, Size
from flax_unet.media.sizes import Survey, may_change
from flax_unet.media.videos import LEAST_PIXELS, middles
from flax_unet.media.worker import AGAIN, Reply
from flax_unet.utils.errors import InputError, counted

_FRAMES_A_SECOND = 25.0  # of a video without a plausible rate
_FASTEST = 240.0
_LONGEST = 30 * 86_400.0  # seconds from the start; later times are damaged
_SHORT_SHARE, _SHORT_SECONDS = 0.02, 0.5  # containers' lengths are not more exact,
_SHORT_IN_TABLE = 0.15  # but where a table lists the packets
_RETRIES = 100  # of reading on where a container is damaged
# The length in these is what was meant to be written; in others, what is there is measured.
_CLAIM_LENGTH = {"avi", "mov", "matroska", "asf", "flv", "mxf"}
# The object with the length in the header of Windows Media: its identifier, 48 other bytes, the
# time of playing in units of 100 ns, that of sending, milliseconds before the first packet, flags.
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_FIELDS = struct.Struct("<48xQ8xQI")
_ASF_BROADCAST = 1  # the length is not known
_ASF_READ = 2**16  # bytes
_STILL = {"mjpeg", "png", "bmp", "gif", "webp", "tiff"}  # of cover art, and of some videos
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders leave it out
_LOOKED_AT = 500  # packets, in which a video has several
_FORMS_WITHOUT_ASPECT = {"mpegts", "mpeg"}  # where it is the codec's
_FLUSH = Packet()  # ends a decoder's input
_NO_VIDEO = f"holds no video that can be decoded (sound alone, or damaged); {AGAIN}"
_UNKNOWN_CODEC = f"is compressed in a way that cannot be decoded here; {AGAIN}"

Replies = Generator[Reply | None]


def read(
    path: str,
    form: str,
    every: int,
    count: int | None,
    max_pixels: float | None,
    *,
    keyframes: bool = False,
    threads: int = 0,
) -> Iterator[Reply | None]:
    """Reads each `every`-th frame of a video, `count` evenly spaced ones, or those `keyframes`.

    `form` is FFmpeg's name of the container. At most `max_pixels` are decoded, though one frame in
    any case, by so many `threads`; 0: as many as FFmpeg likes. Before the frames comes
    a reply with `rate` (chosen frames a second) and `expected` (their number, if the file says how
    many frames it has); for each chosen frame, one with `number`, `seconds` and `size`; last, one
    with `notes`, `shortfall` and `unread`. None stands for each packet that is only looked at, and
    each frame that is left out.

    Raises:
        InputError: there is no frame; the message is a predicate.
    """
    video = _Video(path, form, math.inf if max_pixels is None else max_pixels, threads)
    given = 0
    if keyframes:
        chosen = video.keyframes()
    else:
        chosen = video.each(every) if count is None else video.spread(count)
    for reply in chosen:
        given += reply is not None and reply.pixels is not None
        yield reply
    if not given:
        raise InputError(f"holds no frame that can be decoded; {AGAIN}")
    yield Reply({"end": True, **video.remarks()})


def opened(path: str, form: str) -> InputContainer:
    """Opens a file in a format, and no other file that it may name.

    Raises:
        InputError: it cannot be opened; the message is a predicate.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": form}
    try:
        # With the prefix, a name such as http:x.avi is not an address.
        return av.open(f"file:{path}", "r", form, options, metadata_errors="replace")
    except MemoryError:
        raise
    except FFmpegError as error:
        raise InputError(_NO_VIDEO) from error


def _asf_length(path: str) -> float:
    """Seconds that the header of a file of Windows Media claims, 0 if it has none."""
    with Path(path).open("rb") as file:
        start = file.read(_ASF_READ)
    _, found, properties = start.partition(_ASF_PROPERTIES)
    if not found or len(properties) < _ASF_FIELDS.size:
        return 0.0
    play_time, preroll, flags = _ASF_FIELDS.unpack_from(properties)
    return 0.0 if flags & _ASF_BROADCAST else play_time / 1e7 - preroll / 1e3


class _AstrayError(Exception):
    """Seeking does not lead where the index says."""


class _Video:
    """A video that is being read."""

    def __init__(self, path: str, form: str, max_pixels: float, threads: int) -> None:
        self._path, self._form, self._threads = path, form, threads
        self._notes: dict[str, None] = {}  # in order, each once
        self._earliest, self._reach = math.inf, 0.0  # seconds: where all streams' packets lie
        self._is_whole = True
        self._converter = Converter()
        self._open()
        self._sizes_may_change = may_change(self._form, self._codec.codec.canonical_name)
        sides = self._stream.width, self._stream.height
        if (excess := too_large(*sides)) is not None:
            raise InputError(excess)
        self._max_pixels = max_pixels
        self._limit(sides)
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self._rate = rate if 0 < rate <= _FASTEST else _FRAMES_A_SECOND
        self._length = self._claimed_length(rate or self._rate)  # seconds
        self._claimed = self._stream.frames or round(self._length * (rate or self._rate)) or None

    def _claimed_length(self, rate: float) -> float:
        """The length in the file's header, 0 if it has none.

        FFmpeg scales the length of AVI to the size of a file that is cut short, and leaves that of
        Windows Media out. Both headers have it all the same.
        """
        length = (self._container.duration or 0) / av.time_base
        if self._form == "matroska":  # which counts from zero, not from the first packet
            length -= (self._container.start_time or 0) / av.time_base
        if self._form == "avi":
            length = max(length, self._stream.frames / rate)
        elif self._form == "asf" and not length:
            length = _asf_length(self._path)
        return max(length, 0.0)

    def _limit(self, size: Size) -> None:
        """Sets how many frames of a size are decoded."""
        self._most = max(self._max_pixels / max(math.prod(size), LEAST_PIXELS), 1)

    def _open(self) -> None:
        self._container = opened(self._path, self._form)
        self._stream = self._best()
        self._codec = self._decoder()
        self._codec.thread_type, self._codec.thread_count = "AUTO", self._threads
        self._codec.options = {"max_pixels": str(MAX_PIXELS)}
        # Sound and pictures share a clock. Without sound, it is that of the first frame: containers
        # may count the delay of codecs that reorder frames.
        has_sound = bool(self._container.streams.audio)
        self._start = (self._container.start_time or 0) / av.time_base if has_sound else None
        self._units = [float(stream.time_base or 0) for stream in self._container.streams]
        self._unit = self._units[self._stream.index]
        self._read = 0  # frames
        self._seconds = -1.0  # time of the last frame
        self._broken = self._without_start = self._misdated = 0
        self._can_start = False
        self._key_times: set[int] = set()  # of keyframes' packets that were decoded
        self._wanted: set[int] | None = None  # times of the only frames that are to be decoded

    def _best(self) -> VideoStream:
        """The stream to judge: not cover art; the file's own choice, and the largest of several."""
        found = [stream for stream in self._container.streams.video if stream.codec_context]
        videos = [s for s in found if not s.disposition & Disposition.attached_pic]
        stills = {s.index for s in videos if s.codec_context.codec.canonical_name in _STILL}
        if stills and len(videos) > 1:
            pictures = stills - self._moving(stills)
            videos = [s for s in videos if s.index not in pictures] or videos
        if not videos:
            is_unknown = len(self._container.streams.video) > len(found)
            raise InputError(_UNKNOWN_CODEC if is_unknown else _NO_VIDEO)
        if len(videos) < len(found):
            self._notes["its cover picture was left out"] = None
        best = max(
            videos,
            key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height, -s.index),
        )
        if len(videos) > 1:
            size = f"{best.width}x{best.height}"
            self._notes[f"it holds {len(videos)} videos; one of {size} was judged"] = None
        return best

    def _decoder(self) -> VideoCodecContext:
        """The decoder of the stream."""
        usual = self._stream.codec_context
        name = _WITH_ALPHA.get(usual.codec.canonical_name)
        if name is None or self._stream.metadata.get("alpha_mode") != "1":
            return usual
        try:
            decoder = cast(VideoCodecContext, CodecContext.create(name, "r"))
        except ValueError:
            self._notes["its transparency cannot be read; what it hides was judged, too"] = None
            return usual
        decoder.extradata = usual.extradata
        return decoder

    def _moving(self, stills: set[int]) -> set[int]:
        """Those of some streams with several of the file's first packets."""
        packets = collections.Counter[int]()
        with opened(self._path, self._form) as container, contextlib.suppress(FFmpegError):
            for packet in itertools.islice(container.demux(), _LOOKED_AT):
                packets[packet.stream_index] += packet.size > 0
                if all(packets[index] > 1 for index in stills):
                    break
        return {index for index in stills if packets[index] > 1}

    def _surveyed(self) -> Iterator[Packet | None]:
        """The video's packets from the start; then room is made for the sizes of its frames.

        Raises:
            InputError: they are too large; the message is a predicate.
        """
        survey = Survey(self._codec, self._square, self._max_pixels)
        for packet in self._packets():
            if packet is not None:
                survey.see(packet)
            yield packet
        if survey.sizes:
            self._limit(self._converter.prepare(survey.sizes))

    def _square(self, frame: VideoFrame) -> Size:
        return self._converter.square(frame, self._pixel_aspect())

    def _pixel_aspect(self) -> Fraction | None:
        """A pixel's width in heights, of the last frame that was decoded."""
        of_codec = None
        if self._form in _FORMS_WITHOUT_ASPECT:
            of_codec = self._codec.sample_aspect_ratio
        return of_codec or self._stream.sample_aspect_ratio

    def each(self, every: int) -> Replies:
        """Reads each `every`-th frame."""
        if self._sizes_may_change:
            for _ in self._surveyed():
                yield None
            self._open()
        yield self._head(1 / every, self._claimed and -(-self._claimed // every))
        yield from self._in_order(lambda number: number % every == 0)

    def spread(self, count: int) -> Replies:
        """Reads the middle frame of each of `count` equal parts; see `_affordable`."""
        index = yield from self._index()
        last = -1
        if index is not None:
            total = len(index.shown)
            numbers = self._affordable(index, count)
            yield self._head(len(numbers) / total, len(numbers))
            try:
                for reply in self._sought(index, numbers):
                    last = reply.values["number"] if reply else last
                    yield reply
                self._read = total
                return
            except (_AstrayError, FFmpegError):
                self._open()
        for _ in self._decoded():
            yield None
        numbers = middles(count, self._read)
        yield self._head(len(numbers) / max(self._read, 1), len(numbers))
        self._open()
        yield from self._in_order({number for number in numbers if number > last}.__contains__)

    def _affordable(self, index: Index, count: int) -> list[int]:
        """The frames that `spread` reads: as many and as near the middles as the limit allows.

        Only the frames from a keyframe on are decoded. Where these are too many, all wanted frames
        move towards the keyframes before them, by the same share of the way.
        """
        middle = middles(count, len(index.shown))
        numbers = middles(int(min(count, self._most)), len(index.shown))
        first = {number: index.first(number) for number in numbers}
        last = {start: number for number, start in first.items()}  # from each keyframe on
        steps = sum(number - start for start, number in last.items())
        share = min(1.0, (self._most - len(last)) / max(steps, 1))
        numbers = sorted({at + int(share * (number - at)) for number, at in first.items()})
        if numbers != middle:
            ends = index.shown[0], *(index.shown[number] for number in numbers), index.shown[-1]
            gap = max(later - earlier for earlier, later in itertools.pairwise(ends)) * self._unit
            self._notes[
                "it takes long to decode: the frames that were judged are unevenly spaced, up to "
                f"{gap:,.1f} s apart"
            ] = None
        return numbers

    def keyframes(self) -> Replies:
        """Reads the frames that decoding can start at, where possible without decoding others."""
        index = yield from self._index()
        last = -1
        if index is not None:
            places = {time: number for number, time in enumerate(index.shown)}
            keys = [key.time for key in index.keys if key.time in places]
            self._is_whole = len(keys) <= self._most
            keys = keys[: int(min(len(keys), self._most))]
            total = len(places) if self._is_whole else places[keys[-1]] + 1
            yield self._head(len(keys) / total, len(keys))
            try:
                for frame in self._alone(keys):
                    if frame is None:
                        yield None
                        continue
                    self._see_time(frame)
                    number = places[frame.pts or 0]
                    if (reply := self._reply(number, frame)) is None:
                        raise _AstrayError
                    last = number
                    yield reply
                self._read = total
                return
            except (_AstrayError, FFmpegError):
                self._open()
        numbers: set[int] = set()
        marked: set[int] = set()  # by the container; not every decoder marks frames
        for frame in self._decoded():
            yield None
            if frame is not None and frame.key_frame:
                numbers.add(self._read - 1)
            if frame is not None and frame.pts in self._key_times:
                marked.add(self._read - 1)
        numbers = numbers or marked
        if not numbers and self._read:
            self._notes["no frame is marked as a keyframe; the first one was judged"] = None
            numbers = {0}
        yield self._head(len(numbers) / max(self._read, 1), len(numbers))
        self._open()
        yield from self._in_order({number for number in numbers if number > last}.__contains__)

    def _alone(self, keys: Sequence[int]) -> Iterator[VideoFrame | None]:
        """The keyframes at some times, each decoded by itself; None for other packets.

        Raises:
            _AstrayError: a packet does not hold a whole keyframe, as where pictures are refreshed
                bit by bit.
        """
        left = iter(keys)
        key = next(left, None)
        for packet in self._packets():
            if packet is None or packet.pts != key:
                yield None
                continue
            frames = [*self._codec.decode(packet), *self._codec.decode(None)]
            self._codec.flush_buffers()
            (frame,) = frames if len(frames) == 1 else (None,)
            if frame is None or frame.pts != key or not frame.key_frame or frame.is_corrupt:
                raise _AstrayError
            yield frame
            key = next(left, None)
        if key is not None:
            raise _AstrayError

    def remarks(self) -> dict[str, Any]:
        """What is known after the last frame."""
        notes = [*self._notes, *self._converter.notes]
        if self._without_start:
            frames = counted(self._without_start, "frame")
            notes.append(f"it starts without a keyframe: its first {frames} were left out")
        if self._misdated:
            frames = counted(self._misdated, "frame")
            notes.append(f"{frames} with implausible times; each follows the one before")
        shortfall = self._shortfall() if self._is_whole else None
        # The last packet of a file that is cut short is not whole.
        if broken := max(self._broken - (shortfall is not None), 0):
            frames = counted(broken, "broken frame")
            notes.append(f"{frames} passed over; those that follow may be damaged")
        seen = "frame was" if self._read == 1 else f"{self._read:,} frames were"
        unread = None if self._is_whole else f"only its first {seen} looked at"
        return {"notes": notes, "shortfall": shortfall, "unread": unread}

    def _shortfall(self) -> str | None:
        missing = self._length - (self._reach - self._earliest)
        seconds = _SHORT_IN_TABLE if self._form == "mov" else _SHORT_SECONDS
        least = max(seconds, _SHORT_SHARE * self._length)
        if self._form not in _CLAIM_LENGTH or missing <= least:
            return None
        if (claimed := self._claimed or 0) > self._read:
            return f"it claims {claimed:,} frames; {self._read:,} could be read"
        return f"it claims {self._length:,.1f} s; {missing:,.1f} s are missing"

    def _head(self, share: float, expected: int | None) -> Reply:
        return Reply({"rate": self._rate * share, "expected": expected})

    def _in_order(self, is_chosen: Callable[[int], bool]) -> Replies:
        """Decodes everything from the start."""
        for frame in self._decoded():
            if frame is None or not is_chosen(self._read - 1):
                yield None
            elif (reply := self._reply(self._read - 1, frame)) is not None:
                yield reply
            else:
                self._broken += 1

    def _sought(self, index: Index, numbers: list[int]) -> Replies:
        """Decodes from the keyframe before each frame that is wanted.

        Raises:
            _AstrayError: frames are not as in the index.
        """
        self._wanted = {index.shown[number] for number in numbers}
        at = -1  # number of the last frame that was wanted
        before = -1  # time of the last that was decoded
        broken = self._broken
        frames = iter(())
        for number in numbers:
            time = index.shown[number]
            key = index.before(time)
            if at < 0 or index.shown[at] < key.time:
                frames = self._from(key)
                before = key.time - 1
            while True:
                frame = next(frames, None)
                if frame is None or frame.pts is None or not before < frame.pts <= time:
                    raise _AstrayError
                if self._broken > broken:  # which changes the numbers of those that follow
                    raise _AstrayError
                before = frame.pts
                if frame.pts == time:
                    break
                yield None
            at = number
            self._see_time(frame)
            if (reply := self._reply(number, frame)) is None:
                raise _AstrayError
            yield reply

    def _from(self, key: Keyframe) -> Iterator[VideoFrame]:
        """The frames from a keyframe on.

        Raises:
            _AstrayError: its packet is not found.
        """
        self._container.seek(key.start, stream=self._stream)
        self._codec.flush_buffers()
        packets = self._packets()
        for packet in packets:
            if packet is None or not packet.is_keyframe:
                continue
            if key.is_in(packet):
                break
            if packet.pts is None or packet.pts >= key.time:
                raise _AstrayError
        else:
            raise _AstrayError
        for frame in self._frames(itertools.chain([packet], packets)):
            # Frames before the keyframe can need others that were not decoded.
            if frame is not None and (frame.pts is None or frame.pts >= key.time):
                yield frame

    def _index(self) -> Generator[None, None, Index | None]:
        """Where all frames are; None where that takes decoding. Opens the file again.

        Raises:
            InputError: frames are too large; the message is a predicate.
        """
        packets = self._surveyed() if self._sizes_may_change else self._packets()
        index = yield from indexed(packets, self._codec.codec.canonical_name, self._form)
        is_broken = self._broken > 0
        if self._sizes_may_change:
            for _ in packets:  # those that `indexed` left
                yield None
        self._open()
        if index is None or is_broken:
            return None
        first, last = (index.shown[place] * self._unit for place in (0, -1))
        self._start = first if self._start is None else self._start
        return index if last - self._start <= _LONGEST else None

    def _decoded(self) -> Iterator[VideoFrame | None]:
        """The frames from the start, counted in `_read`; None where there is none to show."""
        for frame in self._frames(self._packets()):
            if frame is not None:
                if self._read >= self._most:
                    self._is_whole = False
                    return
                self._see_time(frame)
                self._read += 1
            yield frame
        if not self._can_start and self._without_start:  # a codec that marks no keyframe
            self._open()
            self._can_start = True
            yield from self._decoded()

    def _frames(self, packets: Iterable[Packet | None]) -> Iterator[VideoFrame | None]:
        """The frames in packets; None for each packet that is passed over."""
        for packet in itertools.chain(packets, [_FLUSH]):
            if packet is None:
                yield None
                continue
            if packet is not _FLUSH and not self._can_start:
                self._can_start = packet.is_keyframe
                if not self._can_start:
                    self._without_start += 1
                    yield None
                    continue
            self._broken += packet.is_corrupt
            if packet.is_keyframe and packet.pts is not None:
                self._key_times.add(packet.pts)
            if self._wanted is not None:  # a third of many videos' frames, which no other one needs
                self._codec.skip_frame = "DEFAULT" if packet.pts in self._wanted else "NONREF"
            try:
                frames = self._codec.decode(None if packet is _FLUSH else packet)
            except MemoryError:
                raise
            except FFmpegError:
                self._broken += packet is not _FLUSH and not packet.is_corrupt
                yield None
                continue
            for frame in frames:
                self._broken += frame.is_corrupt
                yield None if frame.is_corrupt else frame

    def _packets(self) -> Iterator[Packet | None]:
        """The video's packets from here on; None for each of another stream."""
        failures = 0
        while failures < _RETRIES:
            try:
                for packet in self._container.demux():
                    if not packet.size:  # at the end
                        continue
                    failures = 0
                    time = packet.dts if packet.pts is None else packet.pts
                    if time is not None:
                        unit = self._units[packet.stream_index]
                        self._reach = max(self._reach, (time + (packet.duration or 0)) * unit)
                        if not packet.is_discard:
                            self._earliest = min(self._earliest, time * unit)
                    yield packet if packet.stream_index == self._stream.index else None
                return
            except MemoryError:
                raise
            except FFmpegError:
                self._broken += failures == 0
                failures += 1

    def _see_time(self, frame: VideoFrame) -> None:
        """Sets the time of the last frame."""
        seconds = -1.0
        if frame.pts is not None:
            time = frame.pts * self._unit
            self._start = time if self._start is None else self._start
            seconds = max(time - self._start, 0.0)
            if seconds > _LONGEST:
                self._misdated += 1
                seconds = -1.0
        if seconds <= self._seconds:  # no time, or one that runs backwards
            seconds = 0.0 if self._seconds < 0 else self._seconds + 1 / self._rate
        self._seconds = seconds

    def _reply(self, number: int, frame: VideoFrame) -> Reply | None:
        """The reply for a frame; None if it cannot be converted."""
        pixels = self._converter.convert(frame, self._pixel_aspect())
        if pixels is None:
            return None
        height, width, _ = pixels.shape
        return Reply({"number": number, "seconds": self._seconds, "size": [width, height]}, pixels)
