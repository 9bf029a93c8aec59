"""Adds the sound of a video to a film that was made of it, in the process of `serve`."""

import errno
import heapq
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard

from flax_unet.media.decoder import opened
from flax_unet.media.worker import Reply
from flax_unet.utils.errors import InputError

_PLAYED_EVERYWHERE = {"aac", "mp3"}  # of what MP4 can hold; the rest is encoded anew
_RATE = 48_000  # samples a second
_GAP = 0.05  # seconds without sound that are filled with silence; less is rounding
_OFTEN = 100  # packets
_MP4 = {"movflags": "+faststart"}  # as the film
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # of a disk, a quota and a limit of files


def add(
    path: str, form: str, film: str, target: str, start: float, seconds: float
) -> Iterator[Reply | None]:
    """Writes `target`: the film with so many seconds of the sound of the video `path`.

    The sound begins at the video's time `start`. `form` is FFmpeg's name of the video's container.
    The last reply has `added`, which is False if the video has no sound; nothing is written then.
    It has `is_full` instead where the disk is. None comes now and then.

    Raises:
        InputError: the video cannot be opened, or its sound cannot be written.
    """
    with opened(path, form) as video:
        sound = video.streams.best("audio")
        if not isinstance(sound, AudioStream) or sound.codec_context is None:
            yield Reply({"end": True, "added": False})
            return
        for stream in video.streams:
            stream.discard = Discard.default if stream.index == sound.index else Discard.all
        try:
            with (
                opened(film, "mov") as pictures,
                av.open(f"file:{target}", "w", "mp4", _MP4) as out,
            ):
                heard = _heard(video, sound, out, start, seconds)
                packets = heapq.merge(_pictures(pictures, out), heard, key=_seconds)
                for number, packet in enumerate(packets):
                    out.mux(packet)
                    if number % _OFTEN == 0:
                        yield None
        except (FFmpegError, ValueError) as error:
            if isinstance(error, FFmpegError) and error.errno in _FULL:
                yield Reply({"end": True, "is_full": True})
                return
            reason = error.strerror if isinstance(error, FFmpegError) else error
            raise InputError(f"has sound that cannot be put into MP4 ({reason})") from error
    yield Reply({"end": True, "added": True})


def _pictures(pictures: InputContainer, out: OutputContainer) -> Iterator[Packet]:
    stream = out.add_stream_from_template(pictures.streams.video[0])
    for packet in pictures.demux():
        if packet.size:
            packet.stream = stream
            yield packet


def _heard(
    video: InputContainer, sound: AudioStream, out: OutputContainer, start: float, seconds: float
) -> Iterator[Packet]:
    """The packets of the sound, whose times are then those of the film."""
    begin = start + (video.start_time or 0) / av.time_base
    packets = (packet for packet in video.demux(sound) if packet.size and packet.pts is not None)
    if sound.codec_context.codec.canonical_name in _PLAYED_EVERYWHERE:
        stream = out.add_stream_from_template(sound)
        for packet in packets:
            if begin <= _seconds(packet) < begin + seconds:
                shift = round(begin / packet.time_base)
                packet.pts = packet.dts = (packet.pts or 0) - shift
                packet.stream = stream
                yield packet
        return
    layout = "mono" if sound.channels == 1 else "stereo"
    stream = out.add_stream("aac", rate=_RATE, layout=layout)
    position = 0  # samples
    for frame in _decoded(packets, begin, seconds, layout):
        time = float((frame.pts or 0) * (frame.time_base or Fraction(1, _RATE)))
        gap = round((time - begin) * _RATE) - position
        for part in ([_silence(gap, layout)] if gap > _GAP * _RATE else []) + [frame]:
            part.pts, part.time_base = position, Fraction(1, _RATE)
            position += part.samples
            yield from stream.encode(part)
    yield from stream.encode(None)


def _decoded(
    packets: Iterable[Packet], begin: float, seconds: float, layout: str
) -> Iterator[AudioFrame]:
    """The sound between these times, at _RATE; its frames have times of the video."""
    resampler = AudioResampler("fltp", layout, _RATE)
    for packet in packets:
        if not begin <= _seconds(packet) < begin + seconds:
            continue
        try:
            frames = packet.decode()
        except FFmpegError:  # a gap
            continue
        for frame in frames:
            if isinstance(frame, AudioFrame):
                yield from resampler.resample(frame)
    yield from resampler.resample(None)


def _silence(samples: int, layout: str) -> AudioFrame:
    channels = 1 if layout == "mono" else 2
    frame = AudioFrame.from_ndarray(np.zeros((channels, samples), np.float32), "fltp", layout)
    frame.sample_rate = _RATE
    return frame


def _seconds(packet: Packet) -> float:
    time = packet.pts if packet.dts is None else packet.dts
    return float((time or 0) * packet.time_base)
